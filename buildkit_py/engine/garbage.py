"""The store's lock, and how garbage is collected while others use the store.

    lock        flock(2): shared by all that read or add, held alone by who removes at will
    lock.old    the same file after a marking, until what was marked is removed
    gc          flock(2): held alone by who marks or removes what was marked

Builds may overlap day and night, so that nobody ever has the store alone. Then garbage goes in two steps,
with the time between them that a running build may need (as in read-copy-update):

1. *Mark.* Results that are to go are forgotten: nobody finds them from now on, but who has found one can go
   on using it. Snapshots that no root leads to then are marked as doomed. ``lock`` is renamed to
   ``lock.old``: who comes later locks a new file, and finds none of what was marked.
2. *Sweep.* Once nobody holds ``lock.old``, all that were there at the marking have ended. Doomed snapshots
   that still no root leads to are removed, and blobs without a name that nobody has held since.

A doomed snapshot is spared when it is found by its chain id, named by a result, or stood on. Between the two
steps nothing else is marked. A process that is killed in the midst leaves the marks and ``lock.old``, and
the next one goes on from there. What is no step (images, cache mounts, contexts, repositories, files by HTTP)
goes only when the store is held alone.
"""

from __future__ import annotations

import fcntl
import os

from buildkit_py.engine import is_named
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.cache.eviction import Item, Rule
    from buildkit_py.engine import Engine

_FLAGS = os.O_RDWR | os.O_CLOEXEC


class Alone:
    """Hold the store's lock alone: wait for builds and pulls that are under way."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = os.path.join(engine.root, "lock")
        self._old = -1
        self._is_alone = False
        engine.share()

    def try_to_be(self) -> bool:
        """Whether nobody else uses the store; to be entered then."""
        self._is_alone = self._lock(fcntl.LOCK_NB)
        return self._is_alone

    def _lock(self, how: int) -> bool:
        engine = self._engine
        while True:
            engine.share()
            try:
                fcntl.flock(engine.lock_fd, fcntl.LOCK_EX | how)
            except BlockingIOError:
                self._share_again()
                return False
            if is_named(engine.lock_fd, self._path):
                break
            engine.unshare()  # somebody marked garbage meanwhile
        self._old = _opened(engine)
        try:
            if self._old >= 0:
                fcntl.flock(self._old, fcntl.LOCK_EX | how)
        except BlockingIOError:
            self._share_again()
            return False
        return True

    def _share_again(self) -> None:
        # flock(2): the lock that we had may be gone.
        self._engine.unshare()
        if self._old >= 0:
            os.close(self._old)
            self._old = -1
        self._engine.share()

    def __enter__(self) -> None:
        if not self._is_alone:
            self._lock(0)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._old >= 0 and kind is None:
            _forget_marks(self._engine)
        self._share_again()
        self._is_alone = False


def mark(engine: Engine, rules: tuple[Rule, ...], *, wait: bool) -> tuple[Item, ...]:
    """The first step: the results that are forgotten. Nothing is done where something is marked already or,
    unless ``wait``, where another process is at it."""
    from buildkit_py.engine import prune

    with _Collector(engine) as collector:
        if not collector.begin(wait) or os.path.exists(_old(engine)):
            return ()
        items = prune.forget_steps(engine, rules)
        keep = prune.kept_snapshots(engine)
        strays = [u.snapshot for u in engine.snapshots.usage() if u.snapshot not in keep]
        if not (items or strays or wait):
            return ()
        engine.snapshots.doom(strays)
        path = os.path.join(engine.root, "lock")
        os.utime(path)  # blobs that were not held since are old
        os.rename(path, _old(engine))
    return items


def sweep_marked(engine: Engine, *, wait: bool) -> int:
    """The second step, where there was a first; the bytes freed. ``wait`` for those that were there at the
    first; else nothing is done before they have ended."""
    from buildkit_py.engine import prune

    how = 0 if wait else fcntl.LOCK_NB
    if not os.path.exists(_old(engine)):
        return 0
    with _Collector(engine) as collector:
        if not collector.begin(wait):
            return 0
        old = _opened(engine)
        if old < 0:
            return 0
        try:
            fcntl.flock(old, fcntl.LOCK_EX | how)
            keep = prune.kept_snapshots(engine)
            freed = sum(engine.snapshots.remove_doomed(s) for s in engine.snapshots.doomed() if s not in keep)
            since = os.fstat(old).st_mtime
            freed += sum(engine.content.delete_old(b, since) for b in prune.unnamed_blobs(engine))
            engine.snapshots.collect_dead()
            _forget_marks(engine)
            return freed
        except BlockingIOError:
            return 0
        finally:
            os.close(old)


def _forget_marks(engine: Engine) -> None:
    engine.snapshots.doom(())
    os.unlink(_old(engine))


def _old(engine: Engine) -> str:
    return os.path.join(engine.root, "lock.old")


def _opened(engine: Engine) -> int:
    """lock.old; -1 where there is none."""
    try:
        return os.open(_old(engine), _FLAGS)
    except FileNotFoundError:
        return -1


class _Collector:
    """One process at a time marks or sweeps."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._fd = os.open(os.path.join(engine.root, "gc"), _FLAGS | os.O_CREAT, 0o600)

    def begin(self, wait: bool) -> bool:
        if wait:
            # Who is at it may be waiting for all that use the store now.
            self._engine.unshare()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        self._engine.share()
        return True

    def __enter__(self) -> _Collector:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
