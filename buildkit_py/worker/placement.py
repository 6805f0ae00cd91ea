"""One file of a selection put into a directory of the layer."""

from __future__ import annotations

import errno
import os
import stat

from buildkit_py.errors import PybuildError
from buildkit_py.worker.destination import Directory, kind_of
from buildkit_py.worker.owner import Ownership

_SMALL = 1 << 18
_CHUNK = 1 << 26
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def make_room(ownership: Ownership, directory: Directory, name: str) -> None:
    """Take away the file of this layer that a new one replaces. It is never written into: it may be
    linked to another layer's."""
    path = f"{directory.path}/{name}" if directory.path else name
    host = f"{directory.host}/{name}"
    mode = os.lstat(host).st_mode
    if stat.S_ISDIR(mode):
        raise PybuildError(f"/{path} is a directory, and a file is to be put there")
    os.unlink(host)
    ownership.forget(path)


def check_base(directory: Directory, name: str) -> None:
    """A file may replace anything of the base but a directory."""
    below = directory.below(name)
    if below is not None and stat.S_ISDIR(below.mode):
        path = f"{directory.path}/{name}" if directory.path else name
        raise PybuildError(f"/{path} is {kind_of(below.mode)}, and a file is to be put there")


def copy_data(source: int, target: int, size: int) -> int:
    """Copy what is left of a file, by the kernel where it can (shared blocks on file systems that know
    them); returns the bytes copied."""
    if size <= _SMALL:
        data = os.read(source, size + 1)
        if data:
            write_all(target, data)
        if len(data) == size:
            return size
        done = len(data)
    else:
        done = 0
    try:
        while n := os.copy_file_range(source, target, _CHUNK):
            done += n
        return done
    except OSError as e:
        if e.errno not in _NO_RANGE:
            raise
    buffer = memoryview(bytearray(1 << 20))
    while n := os.readv(source, [buffer]):
        write_all(target, buffer[:n])
        done += n
    return done


def write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def make_special(
    ownership: Ownership, host: str, path: str, mode: int, uid: int, gid: int, rdev: int
) -> None:
    """A fifo or a device. A device that may not be made, and 0:0, which would mean "deleted" in a layer,
    is an empty file with a record."""
    if stat.S_ISFIFO(mode) or rdev:
        try:
            os.mknod(host, stat.S_IFMT(mode) | 0o600, rdev)
        except PermissionError:
            pass
        else:
            ownership.apply_special(host, path, uid, gid)
            os.chmod(host, stat.S_IMODE(mode))
            return
    os.close(os.open(host, _CREATE, 0o600))
    ownership.record_device(host, path, mode, uid, gid, rdev)


def open_source(host: str) -> int:
    return os.open(host, _READ)


def create(name: str, mode: int, directory_fd: int) -> int:
    return os.open(name, _CREATE, mode, dir_fd=directory_fd)
