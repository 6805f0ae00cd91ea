"""What is told of limits where the user's systemd gives no control group for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.linux import cgroups, systemd
from buildkit_py.linux.cgroups import Group, Hierarchies
from buildkit_py.request import Limits
from buildkit_py.sandbox import limits
from buildkit_py.sandbox.spec import SandboxSpec

SPEC = SandboxSpec((), "", "", (), ())
LIMITS = Limits(memory=1 << 20)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A login in a group of root's, and a systemd that refuses; the file that it notes the questions in."""
    mount = tmp_path / "cgroup"
    (mount / "session").mkdir(parents=True)
    (mount / "cgroup.controllers").write_text("memory pids")
    found = Hierarchies(str(mount), "/session", {})
    monkeypatch.setattr(cgroups, "hierarchies", lambda *_, **__: found)
    monkeypatch.setattr(systemd, "bus", lambda: "/none")
    monkeypatch.setattr(limits, "_refusals", {})
    notes = tmp_path / "notes"
    notes.touch()
    program = tmp_path / "busctl"
    program.write_text(f"#!/bin/sh\necho \"$@\" >> {notes}\necho 'Call failed: Not today.' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return notes


def test_a_refusal_stands_in_the_warning_and_is_asked_for_once(asked: Path) -> None:
    for name in ("build-1-1", "build-1-2"):
        spec, group, warning = limits.apply(SPEC, LIMITS, name, "ids", 41)
        assert (spec, group) == (SPEC, Group())
        assert warning == (
            "this machine doesn't let us set --memory: no control group is delegated to this user; "
            "the user's systemd refuses: Not today."
        )
    (line,) = asked.read_text().splitlines()
    assert "PIDs au 1 41" in line


def test_strict_hints_at_a_way(asked: Path) -> None:
    with pytest.raises(PybuildError, match="Not today") as caught:
        limits.apply(SPEC, LIMITS._replace(strict=True), "x", "ids", 41)
    assert "systemd-run" in (caught.value.hint or "")


def test_it_is_not_asked_in_vain(asked: Path) -> None:
    limits.apply(SPEC, Limits(), "x", "ids", 41)
    limits.apply(SPEC, LIMITS, "x", "root", 41)
    limits.apply(SPEC, Limits(blkio_weight=100), "x", "ids", 41)
    assert asked.read_text() == ""
