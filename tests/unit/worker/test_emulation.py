"""What is said where a step is for another architecture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit_py.worker import emulation


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(emulation, "REGISTERED", str(tmp_path))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1", "#1", "x86_64")))
    return tmp_path


@pytest.mark.parametrize("platform", ["", "linux/amd64", "linux/386"])
def test_nothing_is_missing(registered: Path, platform: str) -> None:
    assert emulation.missing(platform) == ""


def test_no_emulator(registered: Path) -> None:
    told = emulation.missing("linux/arm64/v8")
    assert "sudo apt install qemu-user-static" in told and "linux/arm64/v8" in told
    assert "$BUILDPLATFORM" in told


def test_an_emulator(registered: Path) -> None:
    entry = registered / "qemu-aarch64"
    entry.write_text("enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: POCF\n")
    assert emulation.missing("linux/arm64") == ""
    entry.write_text("enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OC\n")
    assert "flag F" in emulation.missing("linux/arm64")
    entry.write_text("disabled\nflags: F\n")
    assert "has no emulator" in emulation.missing("linux/arm64")
