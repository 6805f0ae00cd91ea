"""What a command hears of a supervisor that can't do its work."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.errors import PybuildError, SandboxError
from buildkit_py.linux.identity import Identity
from buildkit_py.runtime.front import Front
from buildkit_py.sandbox.launcher import Launcher
from buildkit_py.sandbox.spec import SandboxSpec

SPEC = SandboxSpec(layers=(), upper="", work="", args=("true",), env=(), cwd="/", uid=0, gid=0, groups=())


def start(front: Front) -> dict[str, Any]:
    try:
        answer, _ = front.start("/nowhere", "root", SPEC, (), (0, 0), lambda text: None)
        return answer
    finally:
        front.close()


def test_a_launcher_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Launcher:
        raise SandboxError("clone: no more processes", call="clone", errno=11, hint="see pids.max")

    monkeypatch.setattr(Launcher, "start", refuse)
    front = Front.fork(Identity("root"), "", lambda: pytest.fail("not reached"))
    answer = start(front)
    assert answer == {"error": "clone: no more processes", "hint": "see pids.max", "untouched": True}
    os.wait()


def test_a_supervisor_that_died_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Launcher, "start", lambda *_, **__: os._exit(1))
    front = Front.fork(Identity("root"), "", lambda: pytest.fail("not reached"))
    os.wait()
    with pytest.raises(PybuildError, match="supervisor has died"):
        start(front)


def test_what_a_supervisor_died_of_is_named(tmp_path: Path) -> None:
    (tmp_path / "crash").touch()
    front = Front.fork(Identity("root"), "", lambda: pytest.fail("not reached"))
    front.conn.shutdown(socket.SHUT_RDWR)
    os.wait()
    with pytest.raises(PybuildError) as caught:
        front.start(str(tmp_path), "root", SPEC, (), (0, 0), lambda text: None)
    front.close()
    assert str(tmp_path / "crash") in caught.value.hint
