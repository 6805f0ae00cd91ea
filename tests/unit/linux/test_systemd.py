"""What the user's systemd is asked for, and what is told where it doesn't do it. The program that asks is
stood in for; that a real one does it is seen on a machine with systemd alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit_py.linux import systemd


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "busctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_words_of_the_request() -> None:
    words = systemd.request("/run/user/1000/bus", 42, "pybuild-42.scope", 5.0)
    assert words[:3] == ["busctl", "--address=unix:path=/run/user/1000/bus", "--timeout=5"]
    assert words[3:8] == [
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
    ]
    assert words[8:12] == ["ssa(sv)a(sa(sv))", "pybuild-42.scope", "fail", "6"]
    joined = " ".join(words[12:])
    assert "PIDs au 1 42" in joined
    assert "Delegate b true" in joined
    # No auxiliary units.
    assert words[-1] == "0"


def test_a_bus_beside_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / "comm"
    first.write_text("systemd\n")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert systemd.bus(str(first)) == ""
    (tmp_path / "bus").touch()
    assert systemd.bus(str(first)) == str(tmp_path / "bus")
    # The bus of a machine, seen from a container.
    first.write_text("sh\n")
    assert systemd.bus(str(first)) == ""
    first.write_text("systemd\n")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert systemd.bus(str(first), str(tmp_path)) == ""
    # What su and sudo leave out.
    folder = tmp_path / str(os.getuid())
    folder.mkdir()
    (folder / "bus").touch()
    assert systemd.bus(str(first), str(tmp_path)) == str(folder / "bus")


def test_a_refusal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        tmp_path, monkeypatch, "echo 'Call failed: Process 1 is a manager process, refusing.' >&2; exit 1"
    )
    said = systemd.scope("/none", os.getpid())
    assert said == "the user's systemd refuses: Process 1 is a manager process, refusing."
    stand_in(tmp_path, monkeypatch, "exit 3")
    assert systemd.scope("/none", os.getpid()) == "the user's systemd refuses: busctl ended with 3"


def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec tail -f /dev/null")
    assert systemd.scope("/none", os.getpid(), patience=0.1) == "the user's systemd doesn't answer"


def test_an_answer_without_a_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo 'o \"/org/freedesktop/systemd1/job/1\"'")
    assert systemd.scope("/none", os.getpid(), patience=0.3) == "the user's systemd moved nothing"


def test_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in systemd.scope("/none", os.getpid())
