"""Where an archive goes: a file that appears whole or not at all, or standard output."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from buildkit_py.content.store import ContentStore
from buildkit_py.errors import StoreError, UsageError

STDOUT = 1


@contextmanager
def opened(dest: str, content: ContentStore) -> Iterator[int]:
    """A seekable descriptor to write an archive to; what was written is at ``dest`` when the body ends well.

    A regular file is written beside its place and renamed. ``-`` and what is no regular file (a pipe, a
    device) get a copy of a file that is made in the store. Raises UsageError, StoreError.
    """
    special = dest == "-" or _is_special(dest)
    if dest == "-" and os.isatty(STDOUT):
        raise UsageError("an archive is not for a terminal", hint="write dest=FILE, or redirect the output")
    fd, path = content.stage() if special else _beside(dest)
    try:
        yield fd
        if special:
            _copy_out(fd, dest)
        else:
            os.rename(path, dest)
            path = ""
    except OSError as e:
        raise _explained(e, dest) from e
    finally:
        os.close(fd)
        if path:
            os.unlink(path)


def _is_special(dest: str) -> bool:
    try:
        mode = os.stat(dest).st_mode
    except OSError:
        return False
    if stat.S_ISDIR(mode):
        raise UsageError(f"cannot write an archive to {dest}: it is a directory", hint="name a file in it")
    return not stat.S_ISREG(mode)


def _beside(dest: str) -> tuple[int, str]:
    folder, name = os.path.split(os.path.abspath(dest))
    path = os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}")
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path
    except OSError as e:
        raise _explained(e, dest) from e


def _copy_out(fd: int, dest: str) -> None:
    out = os.dup(STDOUT) if dest == "-" else os.open(dest, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        while data := os.read(fd, 1 << 20):
            view = memoryview(data)
            while view:
                view = view[os.write(out, view) :]
    finally:
        os.close(out)


def _explained(error: OSError, dest: str) -> StoreError | UsageError:
    what = f"cannot write {dest}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EISDIR, errno.EROFS):
        return UsageError(what)
    return StoreError(what, hint="free some space there" if error.errno == errno.ENOSPC else "")
