"""File handles: the names of inodes that are not given again to another file (name_to_handle_at(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from buildkit_py.linux.syscalls import call, fail

_SIZE = 128


def handle(directory: int, path: str) -> bytes | None:
    """The handle of what is at ``path``, links not followed; None where nothing is.

    On a file system without handles it is made of the inode's number.
    """
    buffer = ctypes.create_string_buffer(struct.pack("Ii", _SIZE, 0), 8 + _SIZE)
    mount = ctypes.c_int()
    if call("name_to_handle_at", directory, os.fsencode(path), buffer, ctypes.byref(mount), 0) == 0:
        size, kind = struct.unpack_from("Ii", buffer)
        return struct.pack("i", kind) + buffer.raw[8 : 8 + size]
    number = ctypes.get_errno()
    if number in (errno.ENOENT, errno.ENOTDIR):
        return None
    if number in (errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ENOSYS):
        return struct.pack("Q", os.stat(path, dir_fd=directory, follow_symlinks=False).st_ino)
    return fail("name_to_handle_at", path, number)
