"""Directories for the time of one build, in the store's staging/.

Each is ``staging/tmp-<random>`` and holds the file ``lock``, on which its process has an exclusive flock, and
the directory ``tree``, which the caller fills. It gets that name when the lock is held, so a lock that can be
taken belongs to a process that is gone; whoever makes the next directory removes what is left of it.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from types import TracebackType

from buildkit_py.errors import StoreError
from buildkit_py.snapshot.removal import remove_tree

PREFIX = "tmp-"
UNFINISHED = "new-"
_YOUNG = 3600.0
"""Seconds."""


class TemporaryDirectory:
    """A context manager; ``path`` is empty at first and gone at the end."""

    def __init__(self, root: str) -> None:
        """``root``: the store's. Raises StoreError."""
        staging = os.path.join(root, "staging")
        name = os.urandom(8).hex()
        made = os.path.join(staging, UNFINISHED + name)
        self._base = os.path.join(staging, PREFIX + name)
        self.path = os.path.join(self._base, "tree")
        self._lock = -1
        try:
            os.makedirs(staging, mode=0o700, exist_ok=True)
            sweep(staging)
            os.mkdir(made, 0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._lock = os.open(os.path.join(made, "lock"), flags, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.mkdir(os.path.join(made, "tree"))
            os.chmod(os.path.join(made, "tree"), 0o755)
            os.rename(made, self._base)
        except OSError as e:
            self.remove()
            raise StoreError(f"cannot make a directory in {staging}: {e.strerror}") from e

    def remove(self) -> None:
        """Safe to call twice."""
        if self._lock >= 0:
            try:
                remove_tree(self._base)
            finally:
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> TemporaryDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def sweep(staging: str) -> int:
    """Remove the directories of dead processes; return how many those were."""
    count = 0
    with os.scandir(staging) as entries:
        names = [e.name for e in entries if e.name.startswith((PREFIX, UNFINISHED))]
    for name in names:
        with suppress(OSError):
            count += _sweep_one(os.path.join(staging, name))
    return count


def _sweep_one(base: str) -> bool:
    """Raises OSError where somebody lives there, or removes it just now."""
    lock = os.path.join(base, "lock")
    if os.path.basename(base).startswith(UNFINISHED) or not os.path.exists(lock):
        if os.stat(base).st_mtime > time.time() - _YOUNG:
            return False
        remove_tree(base)
        return True
    fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(base)
    finally:
        os.close(fd)
    return True
