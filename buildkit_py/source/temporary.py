"""Directories for the time of one build, in the store's staging/.

Each is ``staging/tmp-<random>`` and holds the file ``lock``, on which its process has an exclusive flock, and
the directory ``tree``, which the caller fills. What a killed process leaves is found by whoever makes the
next one: a lock that can be taken belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from types import TracebackType

from buildkit_py.errors import StoreError
from buildkit_py.snapshot.removal import remove_tree

PREFIX = "tmp-"


class TemporaryDirectory:
    """A context manager; ``path`` is empty at first and gone at the end."""

    def __init__(self, root: str) -> None:
        """``root``: the store's. Raises StoreError."""
        staging = os.path.join(root, "staging")
        self._base = os.path.join(staging, PREFIX + os.urandom(8).hex())
        self.path = os.path.join(self._base, "tree")
        try:
            os.makedirs(staging, mode=0o700, exist_ok=True)
            sweep(staging)
            os.mkdir(self._base, 0o700)
            self._lock = os.open(
                os.path.join(self._base, "lock"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.mkdir(self.path, 0o755)
            os.chmod(self.path, 0o755)
        except OSError as e:
            raise StoreError(f"cannot make a directory in {staging}: {e.strerror}") from e

    def remove(self) -> None:
        """Safe to call twice."""
        if self._lock >= 0:
            remove_tree(self._base)
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
        names = [e.name for e in entries if e.name.startswith(PREFIX)]
    for name in names:
        base = os.path.join(staging, name)
        try:
            fd = os.open(os.path.join(base, "lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            # Made this moment, or being removed; one that is really left over stays empty and small.
            with suppress(OSError):
                if os.stat(base).st_mtime < _now() - 3600:
                    remove_tree(base)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(base)
            count += 1
        except OSError:
            pass
        finally:
            os.close(fd)
    return count


def _now() -> float:
    import time

    return time.time()
