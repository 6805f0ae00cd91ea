"""The last step into a sandbox goes through a tiny program in sealed memory.

A process that executes an image's program hands over its own executable: an image whose command is a link
to /proc/self/exe, or a script that begins with ``#!/proc/self/exe``, makes the kernel run *this* process's
executable again, as the image's, and then has a handle on it: the host's Python interpreter, which root (or
a user who owns that Python) may overwrite (CVE-2019-5736 of runc). So the process first becomes a program
of 300 bytes that lies in a sealed memfd: it executes the command, or says in one line why that failed.
What the image gets hold of can't be written, and is of no use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from buildkit_py.tuples import NamedTuple

_BASE = 0x400000
_HEADERS = 64 + 56
_MFD_EXEC = 0x10
"""Since Linux 6.3, where vm.memfd_noexec=1 makes the bit the caller's decision; EINVAL before."""
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Failure(NamedTuple):
    """What to say on stderr, and to exit with, when execve(2) fails so; errno 0: in all other cases."""

    errno: int
    message: bytes
    status: int


def program(failures: list[Failure], before: bytes = b"", *, named: bool = False) -> bytes:
    """The ELF image for x86_64: execve(argv[0], argv + 1, envp). The last failure has errno 0.

    ``before``: code that is run first. ``named``: argv[0] is its own name; all others come one later.
    """
    at = 16 if named else 8
    code = before + bytes.fromhex(
        f"488b7c24{at:02x}"  # mov rdi, [rsp+8]          path: argv[0]
        f"488d7424{at + 8:02x}"  # lea rsi, [rsp+16]         argv + 1
        "488b0424"  # mov rax, [rsp]              argc
        "488d54c410"  # lea rdx, [rsp+rax*8+16]   envp
        "b83b000000"  # mov eax, 59               execve
        "0f05"  # syscall
    )
    say = bytes.fromhex(
        "b801000000"  # mov eax, 1                write
        "bf02000000"  # mov edi, 2
        "0f05"  # syscall
        "89df"  # mov edi, ebx
        "b8e7000000"  # mov eax, 231              exit_group
        "0f05"  # syscall
    )
    # Each case is 25 bytes; the last, which takes all the rest, 20.
    size = len(code) + 25 * (len(failures) - 1) + 20 + len(say)
    text = _BASE + _HEADERS + size
    say_at = size - len(say)
    for failure in failures:
        if failure.errno:
            code += bytes((0x83, 0xF8, 256 - failure.errno, 0x75, 20))  # cmp eax, -errno; jne next
        code += struct.pack("<BI", 0xBE, text)  # mov esi, message
        code += struct.pack("<BI", 0xBA, len(failure.message))  # mov edx, length
        code += struct.pack("<BI", 0xBB, failure.status)  # mov ebx, status
        code += struct.pack("<Bi", 0xE9, say_at - len(code) - 5)  # jmp say
        text += len(failure.message)
    code += say + b"".join(failure.message for failure in failures)
    return _elf_header() + _load_segment(_HEADERS + len(code)) + code


def _elf_header() -> bytes:
    magic = b"\x7fELF\2\1\1" + bytes(9)
    return magic + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)


def _load_segment(size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)


def execute(
    path: str, args: tuple[str, ...], env: dict[str, str], failures: list[Failure], before: bytes = b""
) -> None:
    """Become ``path`` by way of the trampoline. Returns where the machine has none (OSError where the
    attempt failed): another architecture than x86_64, or memory that may not be executed."""
    if os.uname().machine != "x86_64":
        return
    try:
        fd = os.memfd_create("exec", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError as e:
        if e.errno != errno.EINVAL:
            return
        fd = os.memfd_create("exec", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, program(failures, before))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    try:
        os.execve(fd, (path, *args), env)
    except PermissionError:
        os.close(fd)
