"""Steps for another architecture: the kernel starts an emulator where one is registered (binfmt_misc)."""

from __future__ import annotations

import os

_QEMU = {
    "386": "i386",
    "amd64": "x86_64",
    "arm": "arm",
    "arm64": "aarch64",
    "loong64": "loongarch64",
    "mips64le": "mips64el",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
_NATIVE = {"x86_64": ("amd64", "386"), "aarch64": ("arm64", "arm"), "armv7l": ("arm",)}
"""uname(2)'s machine -> what runs on it without help."""
REGISTERED = "/proc/sys/fs/binfmt_misc"


def missing(platform: str) -> str:
    """What to do so that steps for ``platform`` can run here; "" where nothing is missing."""
    arch = platform.split("/")[1] if "/" in platform else ""
    machine = os.uname().machine
    if not arch or arch in _NATIVE.get(machine, (machine,)):
        return ""
    name = _QEMU.get(arch, arch)
    try:
        with open(f"{REGISTERED}/qemu-{name}", encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        text = ""
    flags = next((line[6:] for line in text.splitlines() if line.startswith("flags:")), "")
    if text.startswith("enabled") and "F" in flags:
        return ""
    if text.startswith("enabled"):
        return (
            f"the emulator qemu-{name} is registered without the flag F (fix binary), so no container "
            "finds it: install the package qemu-user-static instead: sudo apt install qemu-user-static"
        )
    return (
        f"this machine has no emulator for {platform}: install the package qemu-user-static, which registers "
        "it with binfmt_misc: sudo apt install qemu-user-static; or build for another platform, or the "
        "stage with FROM --platform=$BUILDPLATFORM"
    )
