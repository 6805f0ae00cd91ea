"""Layer directories that are being written, and what a crash leaves of them.

Each process that stages holds one lock file, ``snapshots/.live/<token>``, under an exclusive flock; its
directories are named ``.new-<token>-<number>``. Whoever can take the lock of a token knows that its
process is gone and moves its directories to the trash. A flock works across pid namespaces, a pid doesn't.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.removal import remove_tree

PREFIX = ".new-"
_YOUNG = 60
"""Seconds."""


class Staged:
    """A new layer directory: write to ``fs`` (with ``work`` as the overlay's work directory and
    ``owners`` for what can't be owned), then give it to SnapshotStore.commit(). As a context manager it
    aborts unless it was committed."""

    def __init__(self, base: str, trash: str) -> None:
        self.base = base
        self.fs = base + "/fs"
        self.work = base + "/work"
        self.owners_file = base + "/owners"
        self.owners = Owners()
        self.done = False
        self._trash = trash

    def abort(self) -> None:
        """Give the directory up. Nothing may be mounted on it any more."""
        if not self.done:
            self.done = True
            discard(self.base, self._trash)

    def keep(self) -> Callable[[], None]:
        """Leave it to the caller, who gives it up by calling what this returns."""
        self.done = True
        return lambda: discard(self.base, self._trash)

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def discard(path: str, trash: str) -> None:
    """Move a directory to the trash: constant time, and its name is free at once."""
    os.makedirs(trash, 0o700, exist_ok=True)
    with suppress(FileNotFoundError):
        os.rename(path, f"{trash}/{os.urandom(8).hex()}")


def remove_work(path: str) -> None:
    """Delete an overlay work directory (nearly empty; its ``work`` is mode 000)."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError:
        remove_tree(path)


class Token:
    """This process's lock file."""

    def __init__(self, root: str) -> None:
        self._directory = root + "/.live"
        os.makedirs(self._directory, 0o700, exist_ok=True)
        while True:
            self.name = os.urandom(6).hex()
            path = f"{self._directory}/{self.name}"
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.stat(path)
            except (BlockingIOError, FileNotFoundError):
                # A sweeper came between creation and lock, and takes the file away: another name.
                os.close(self._fd)
                continue
            return

    def close(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self._directory}/{self.name}")
        os.close(self._fd)


def sweep(root: str, modes: tuple[str, ...], trash: str) -> int:
    """Move what dead processes staged to the trash; return how many directories that were."""
    try:
        tokens = os.listdir(root + "/.live")
    except FileNotFoundError:
        return 0
    count = 0
    for token in tokens:
        path = f"{root}/.live/{token}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for mode in modes:
                count += _sweep_token(f"{root}/{mode}", token, trash)
            with suppress(FileNotFoundError):
                os.unlink(path)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
    return count


def _sweep_token(directory: str, token: str, trash: str) -> int:
    count = 0
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if name.startswith(f"{PREFIX}{token}-"):
                discard(f"{directory}/{name}", trash)
                count += 1
    return count


def sweep_unnamed(directory: str, known: set[str], trash: str) -> None:
    """Move layer directories that no row knows to the trash: their process died before it wrote one."""
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if name in known or name.startswith(PREFIX):
                continue
            # A directory is renamed a moment before its row is written: leave the young ones alone.
            with suppress(FileNotFoundError):
                if os.lstat(f"{directory}/{name}").st_ctime < time.time() - _YOUNG:
                    discard(f"{directory}/{name}", trash)
