"""Programs of other architectures: the kernel starts an emulator where one is registered (binfmt_misc).

Since Linux 6.7 a user namespace can have registrations of its own. An ordinary user's builds make them, with
the emulators that are installed; real root would change the whole machine, and is told how to. See
docs/adr/0018.
"""

from __future__ import annotations

import os

from buildkit_py.errors import SandboxError
from buildkit_py.linux import mounts
from buildkit_py.linux import syscalls as sc
from buildkit_py.tuples import NamedTuple


class Machine(NamedTuple):
    """How qemu calls an architecture, and what its ELF headers hold (elf(5))."""

    qemu: str
    bits: int
    order: str
    """Of bytes: little or big."""
    number: int
    """e_machine"""


_MACHINES = {
    "386": Machine("i386", 32, "little", 3),
    "amd64": Machine("x86_64", 64, "little", 62),
    "arm": Machine("arm", 32, "little", 40),
    "arm64": Machine("aarch64", 64, "little", 183),
    "loong64": Machine("loongarch64", 64, "little", 258),
    "mips64le": Machine("mips64el", 64, "little", 8),
    "ppc64le": Machine("ppc64le", 64, "little", 21),
    "riscv64": Machine("riscv64", 64, "little", 243),
    "s390x": Machine("s390x", 64, "big", 22),
}
_NATIVE = {"x86_64": ("amd64", "386"), "aarch64": ("arm64", "arm"), "armv7l": ("arm",)}
"""uname(2)'s machine -> what runs on it without help."""
OWN_REGISTRATIONS = (6, 7)
"""The kernel that lets a user namespace have some."""
REGISTERED = "/proc/sys/fs/binfmt_misc"
FOLDERS = ("/usr/bin", "/usr/local/bin")
DEBIAN = "/usr/libexec/qemu-binfmt"
"""Emulators under names by which they know that they are given the program's argv[0] (flag P)."""
_PACKAGE = "sudo apt install qemu-user-static"


def prepare(platform: str, mode: str) -> None:
    """Register the installed emulators in our user namespace where one for ``platform`` is wanted and none
    is there. ``mode`` as of Identity. What is in the way of it is not told: ``missing`` says what to do.
    For one thread of one process of the namespace."""
    if mode == "root" or not _state(platform) or not interpreter(_machine(platform)):
        return
    try:
        sc.move_mount(mounts.new("binfmt_misc"), sc.AT_FDCWD, REGISTERED)
        for arch, machine in _MACHINES.items():
            path = "" if arch in _native() else interpreter(machine)
            if path:
                _register(registration(machine, path))
    except (SandboxError, OSError):
        return


def runnable(mode: str, release: str) -> tuple[str, ...]:
    """The architectures whose programs run here by an emulator. ``release``: the kernel's (uname(2))."""
    own = mode != "root" and _own(release)
    return tuple(
        arch
        for arch, machine in _MACHINES.items()
        if arch not in _native() and (not _state(f"linux/{arch}") or (own and interpreter(machine)))
    )


def missing(platform: str) -> str:
    """What to do so that steps for ``platform`` can run here; "" where nothing is missing."""
    state = _state(platform)
    if not state:
        return ""
    machine = _machine(platform)
    if state == "no F":
        return (
            f"the emulator qemu-{machine.qemu} is registered without the flag F (fix binary): no container "
            f"finds it; install the package qemu-user-static instead: {mend(platform)}"
        )
    path = interpreter(machine)
    if not path:
        return (
            f"this machine has no emulator for {platform}: install the package qemu-user-static, which "
            f"registers it with binfmt_misc: {mend(platform)}; or build for another platform, or the stage "
            "with FROM --platform=$BUILDPLATFORM"
        )
    other = "\nor build as an ordinary user, who needs nothing of that" if _own(os.uname().release) else ""
    return f"the emulator {path} is installed, but the kernel does not know it: {mend(platform)}{other}"


def mend(platform: str) -> str:
    """The command by which programs of a platform get an emulator."""
    machine = _machine(platform)
    path = interpreter(machine)
    if _state(platform) == "no F" or not path:
        return _PACKAGE
    register = f"{REGISTERED}/register"
    mount = "" if os.path.exists(register) else f"mount -t binfmt_misc binfmt_misc {REGISTERED} && "
    text = registration(machine, path).replace("\\", "\\\\")
    return f"sudo sh -c '{mount}printf %s \"{text}\" > {register}'"


def interpreter(machine: Machine) -> str:
    """The path of an emulator that needs no libraries of the image; "" where none is installed."""
    if not machine.number:
        return ""
    path = f"{DEBIAN}/{machine.qemu}-binfmt-P"
    if os.access(path, os.X_OK):
        return path
    for folder in FOLDERS:
        for name in (f"qemu-{machine.qemu}-static", f"qemu-{machine.qemu}"):
            path = f"{folder}/{name}"
            if os.access(path, os.X_OK) and is_static(path):
                return path
    return ""


def registration(machine: Machine, path: str) -> str:
    """A line for binfmt_misc's ``register``: executables and shared objects of this machine, whatever their
    ABI's name. F: the emulator is opened now, and found in no container; OC: set-user-id programs work."""
    kind, number = (2).to_bytes(2, machine.order), machine.number.to_bytes(2, machine.order)  # type: ignore[arg-type]
    any_kind = (0xFFFE).to_bytes(2, machine.order)  # type: ignore[arg-type]
    head = bytes((0x7F, *b"ELF", machine.bits // 32, 1 if machine.order == "little" else 2, 1))
    magic = head + bytes(9) + kind + number
    mask = b"\xff" * 7 + b"\0" + b"\xff" * 8 + any_kind + b"\xff\xff"
    flags = "OCFP" if path.startswith(DEBIAN) else "OCF"
    return f":qemu-{machine.qemu}:M::{_escaped(magic)}:{_escaped(mask)}:{path}:{flags}"


def is_static(path: str) -> bool:
    """Whether a program needs no loader (it has no PT_INTERP)."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:5] != b"\x7fELF\x02":
                return False
            order = "little" if head[5] == 1 else "big"
            at, size, count = (
                int.from_bytes(head[a:b], order)  # type: ignore[arg-type]
                for a, b in ((32, 40), (54, 56), (56, 58))
            )
            file.seek(at)
            table = file.read(size * count)
    except OSError:
        return False
    return all(int.from_bytes(table[n : n + 4], order) != 3 for n in range(0, len(table), size))  # type: ignore[arg-type]


def _state(platform: str) -> str:
    """What keeps programs of a platform from running: "" nothing, "no F", or "none"."""
    arch = platform.split("/")[1] if "/" in platform else ""
    if not arch or arch in _native():
        return ""
    try:
        with open(f"{REGISTERED}/qemu-{_machine(platform).qemu}", encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return "none"
    flags = next((line[6:] for line in text.splitlines() if line.startswith("flags:")), "")
    if not text.startswith("enabled"):
        return "none"
    return "" if "F" in flags else "no F"


def _own(release: str) -> bool:
    """Whether a kernel lets a user namespace have registrations of its own."""
    numbers = release.split("-")[0].split(".")[:2]
    return tuple(int("".join(c for c in n if c.isdigit()) or 0) for n in numbers) >= OWN_REGISTRATIONS


def _native() -> tuple[str, ...]:
    uname = os.uname().machine
    return _NATIVE.get(uname, (uname,))


def _machine(platform: str) -> Machine:
    arch = platform.split("/")[1]
    return _MACHINES.get(arch) or Machine(arch, 0, "", 0)


def _register(line: str) -> None:
    fd = os.open(f"{REGISTERED}/register", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)
