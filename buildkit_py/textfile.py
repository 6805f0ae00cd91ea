"""Reading and writing files that a person names: Dockerfiles, ignore rules; what a build is to note.

A FIFO that nobody writes to, or a device, would keep us waiting or fill the memory, so only regular files
are opened by name. What the shell hands over open (``<(…)``, which is /dev/fd/N) is read as it comes.
"""

from __future__ import annotations

import errno
import os
import stat

MAX_SIZE = 16 << 20
"""Bytes. A Dockerfile or a list of rules that is larger is some other file."""
_STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr")
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}


class IrregularError(OSError):
    """Not a file that can be read by its name; ``strerror`` says what it is."""


def read(path: str) -> bytes:
    """The whole file. Raises IrregularError and other OSErrors, ``strerror`` for a person to read."""
    given = _descriptor(path)
    fd = _regular(path) if given < 0 else os.dup(given)
    try:
        parts, left = [], MAX_SIZE + 1
        while left and (data := os.read(fd, min(left, 1 << 20))):
            parts.append(data)
            left -= len(data)
    finally:
        os.close(fd)
    if not left:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_SIZE >> 20} MiB")
    return b"".join(parts)


def write(path: str, data: bytes) -> None:
    """Make ``data`` the whole file, or leave it as it is: written beside its place, then renamed. Its mode
    stays, and a link to it. A device or a pipe is written to: one that root replaced by a file would be gone
    for the whole machine. Raises OSError."""
    given = _descriptor(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if given >= 0 or not stat.S_ISREG(mode):
        _write_all(os.dup(given) if given >= 0 else os.open(path, os.O_WRONLY | os.O_CLOEXEC), data)
        return
    target = os.path.realpath(path)
    staged = os.path.join(os.path.dirname(target), f".pybuild-{os.urandom(6).hex()}")
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        if stat.S_IMODE(mode):
            os.fchmod(fd, stat.S_IMODE(mode))
        _write_all(fd, data)
        os.replace(staged, target)
    except BaseException:
        os.unlink(staged)
        raise


def _write_all(fd: int, data: bytes) -> None:
    """Write to a descriptor, and close it."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _descriptor(path: str) -> int:
    """The number of an open file that a path stands for, -1 where it is another path."""
    if path in _STREAMS:
        return _STREAMS.index(path)
    for folder in _DESCRIPTORS:
        number = path.removeprefix(folder)
        if number != path and number.isascii() and number.isdigit() and len(number) < 10:
            return int(number)
    return -1


def _regular(path: str) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for a writer.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as e:
        kind = _kind(path)
        if not kind:
            raise
        raise IrregularError(e.errno, f"it is {kind}, not a regular file") from e
    kind = _KINDS.get(stat.S_IFMT(os.fstat(fd).st_mode), "")
    if kind:
        os.close(fd)
        raise IrregularError(0, f"it is {kind}, not a regular file")
    return fd


def _kind(path: str) -> str:
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "")
    except OSError:
        return ""
