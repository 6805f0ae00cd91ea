"""Waiting until a file of a directory changes (inotify(7))."""

from __future__ import annotations

import ctypes
import os
import select

from buildkit_py.linux.syscalls import fail

_MODIFY = 0x2
_CREATE = 0x100
_MOVED_TO = 0x80


class Watch:
    """Of one directory, from the moment it is made."""

    def __init__(self, directory: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(os.O_CLOEXEC)
        if self._fd < 0:
            fail("inotify_init1", directory)
        events = ctypes.c_uint32(_MODIFY | _CREATE | _MOVED_TO)
        if libc.inotify_add_watch(self._fd, os.fsencode(directory), events) < 0:
            os.close(self._fd)
            fail("inotify_add_watch", directory)

    def wait(self, seconds: float | None = None) -> bool:
        """Until something changed since the last call; False where the time ran out."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(None if seconds is None else max(seconds, 0.0) * 1000):
            return False
        os.read(self._fd, 65536)
        return True

    def close(self) -> None:
        os.close(self._fd)
