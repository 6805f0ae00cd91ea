"""Programs of other architectures: what is registered, and what is said where nothing is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from buildkit_py.linux import emulation, probe

AARCH64 = (
    r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)
S390X = (
    r":qemu-s390x:M::\x7f\x45\x4c\x46\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff:"
)
ARM = (
    r":qemu-arm:M::\x7f\x45\x4c\x46\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of registrations of an x86-64 machine without emulators."""
    folder = tmp_path / "binfmt_misc"
    folder.mkdir()
    monkeypatch.setattr(emulation, "REGISTERED", str(folder))
    monkeypatch.setattr(emulation, "FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(emulation, "DEBIAN", str(tmp_path / "debian"))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1", "#1", "x86_64")))
    return folder


def install(path: Path, *, static: bool) -> None:
    """An ELF program of one program header: PT_LOAD, or PT_INTERP."""
    path.parent.mkdir(exist_ok=True)
    head = b"\x7fELF\x02\x01\x01".ljust(32, b"\0") + (64).to_bytes(8, "little")
    head = head.ljust(54, b"\0") + (56).to_bytes(2, "little") + (1).to_bytes(2, "little")
    path.write_bytes(head.ljust(64, b"\0") + (1 if static else 3).to_bytes(4, "little").ljust(56, b"\0"))
    path.chmod(0o755)


@pytest.mark.parametrize("platform", ["", "linux/amd64", "linux/386"])
def test_nothing_is_missing(registered: Path, platform: str) -> None:
    assert emulation.missing(platform) == ""


def test_no_emulator(registered: Path) -> None:
    told = emulation.missing("linux/arm64/v8")
    assert "sudo apt install qemu-user-static" in told and "linux/arm64/v8" in told
    assert "$BUILDPLATFORM" in told
    assert "no emulator for linux/sparc64" in emulation.missing("linux/sparc64")


def test_a_registered_emulator(registered: Path) -> None:
    entry = registered / "qemu-aarch64"
    entry.write_text("enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: POCF\n")
    assert emulation.missing("linux/arm64") == ""
    entry.write_text("enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OC\n")
    assert "flag F" in emulation.missing("linux/arm64")
    entry.write_text("disabled\nflags: F\n")
    assert "has no emulator" in emulation.missing("linux/arm64")


def test_an_installed_emulator_that_the_kernel_does_not_know(registered: Path, tmp_path: Path) -> None:
    install(tmp_path / "qemu-aarch64-static", static=True)
    told = emulation.missing("linux/arm64")
    assert f"sudo sh -c 'mount -t binfmt_misc binfmt_misc {registered} && printf " in told
    (registered / "register").touch()
    told = emulation.missing("linux/arm64")
    assert "ordinary user" not in told  # the kernel is 6.1
    command = told[told.index("sudo sh -c ") + len("sudo sh -c ") :]
    assert "\n" not in command
    assert os.system(f"sh -c {command}") == 0
    line = (registered / "register").read_text()
    assert line == f"{AARCH64}{tmp_path}/qemu-aarch64-static:OCF"


def test_what_root_could_do_instead(
    registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "qemu-aarch64-static", static=True)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6.18.1-x", "#1", "x86_64")))
    assert emulation.missing("linux/arm64").endswith(
        "\nor build as an ordinary user, who needs nothing of that"
    )


def test_which_program_is_taken(registered: Path, tmp_path: Path) -> None:
    machine = emulation.Machine("arm", 32, "little", 40)
    assert emulation.interpreter(machine) == ""
    install(tmp_path / "qemu-arm", static=False)
    assert emulation.interpreter(machine) == ""
    install(tmp_path / "qemu-arm", static=True)
    assert emulation.interpreter(machine) == f"{tmp_path}/qemu-arm"
    install(tmp_path / "debian" / "arm-binfmt-P", static=True)
    path = emulation.interpreter(machine)
    assert emulation.registration(machine, path) == f"{ARM}{path}:OCFP"


def test_big_endian(registered: Path) -> None:
    machine = emulation.Machine("s390x", 64, "big", 22)
    assert emulation.registration(machine, "/q") == f"{S390X}/q:OCF"


def test_what_is_no_static_program(tmp_path: Path) -> None:
    assert not emulation.is_static(str(tmp_path / "none"))
    (tmp_path / "text").write_text("#!/bin/sh\n" * 20)
    assert not emulation.is_static(str(tmp_path / "text"))
    assert not emulation.is_static(os.path.realpath(sys.executable))


def test_what_doctor_says(registered: Path, tmp_path: Path) -> None:
    finding = probe.emulator_finding("ids", "6.12.0")
    assert not finding.ok and not finding.required and finding.mend == "sudo apt install qemu-user-static"
    install(tmp_path / "qemu-aarch64-static", static=True)
    assert probe.emulator_finding("ids", "6.12.0-amd64").detail == "RUN works for arm64"
    assert "printf" in probe.emulator_finding("ids", "6.1.0").mend
    assert "printf" in probe.emulator_finding("root", "6.12.0").mend
    (registered / "qemu-riscv64").write_text("enabled\nflags: F\n")
    assert probe.emulator_finding("root", "6.1.0").detail == "RUN works for riscv64"
