"""What of the store can go: containers that ended, images, things in the cache, and all that nothing names
then.

Roots are images, containers and cache records; a snapshot or blob that no root leads to is removed. The
store's lock is held alone meanwhile, so no build loses what it just found.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from buildkit_py import digest as digests
from buildkit_py.cache.eviction import Item, Rule, choose
from buildkit_py.digest import ChainID, SnapshotID
from buildkit_py.engine.inventory import inventory, remove
from buildkit_py.engine.leftovers import remove_leftovers
from buildkit_py.errors import PybuildError
from buildkit_py.tuples import NamedTuple

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


class Pruned(NamedTuple):
    """What a prune removed, or would: names to show, and bytes."""

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    freed: int = 0
    """In a dry run what of the cache would be freed."""


class PruneRequest(NamedTuple):
    containers: bool = False
    images: bool = False
    """Those without a name."""
    all_images: bool = False
    """Those that no container uses."""
    rules: tuple[Rule, ...] = ()
    """For the cache; none: it stays as it is."""
    dry_run: bool = False


def prune(engine: Engine, request: PruneRequest) -> Pruned:
    engine.enter()
    with Alone(engine):
        return _prune(engine, request)


def try_prune(engine: Engine, request: PruneRequest) -> Pruned | None:
    """As prune(), but None where another process uses the store now."""
    engine.enter()
    alone = Alone(engine)
    if not alone.try_to_be():
        return None
    with alone:
        return _prune(engine, request)


def _prune(engine: Engine, request: PruneRequest) -> Pruned:
    containers = _containers(engine, request)
    images = _images(engine, request)
    items, freed = _items(engine, request)
    if not request.dry_run:
        freed = sum(remove(engine, item) for item in items) + sweep(engine)
    return Pruned(containers, images, tuple(items), freed)


class Alone:
    """Hold the store's lock alone: wait for builds and pulls that are under way."""

    def __init__(self, engine: Engine) -> None:
        engine.share()
        self._fd = engine.lock_fd

    def try_to_be(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # flock(2): the lock that we had may be gone.
            fcntl.flock(self._fd, fcntl.LOCK_SH)
            return False
        return True

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_SH)


def _containers(engine: Engine, request: PruneRequest) -> tuple[str, ...]:
    if not request.containers:
        return ()
    gone = [c for c in engine.containers.list() if not c.alive()]
    if request.dry_run:
        return tuple(c.id for c in gone)
    from buildkit_py.engine import containers

    removed = []
    for container in gone:
        try:
            containers.remove(engine, container)
            removed.append(container.id)
        except PybuildError:
            # Started, or removed, meanwhile.
            continue
    return tuple(removed)


def _images(engine: Engine, request: PruneRequest) -> tuple[str, ...]:
    if not (request.images or request.all_images):
        return ()
    used = {c.image for c in engine.containers.list() if c.alive() or not request.containers}
    gone = [
        image
        for image in engine.images.images()
        if image.id not in used and (request.all_images or not image.names)
    ]
    if not request.dry_run:
        for image in gone:
            engine.images.remove(image.id, force=True)
    return tuple(name for image in gone for name in (image.names or (image.id,)))


def _items(engine: Engine, request: PruneRequest) -> tuple[list[Item], int]:
    if not request.rules:
        return [], 0
    found = inventory(engine)
    space = os.statvfs(engine.root)
    return choose(
        found.items, found.layout, request.rules, free=space.f_bavail * space.f_frsize, now=time.time()
    )


def sweep(engine: Engine) -> int:
    """Remove what no root leads to; return the bytes freed. The store's lock must be held alone."""
    from buildkit_py.source.http import kept

    freed = 0
    keep = kept_snapshots(engine)
    for usage in sorted(engine.snapshots.usage(), key=lambda u: u.created, reverse=True):
        if usage.snapshot not in keep:
            freed += engine.snapshots.remove(usage.snapshot)
    freed += remove_leftovers(engine)
    engine.snapshots.collect_trash()
    freed += engine.containers.collect_trash() + engine.volumes.collect_trash()
    named = engine.images.referenced() | {digest for digest, _ in kept(engine.db)}
    for blob in list(engine.content.digests()):
        if blob not in named:
            freed += engine.content.delete(blob)
    return freed


def kept_snapshots(engine: Engine) -> set[SnapshotID]:
    """The snapshots that roots lead to, with all that they stand on."""
    roots = [r.snapshot for r in engine.index.records()]
    roots += [c.snapshot for c in engine.containers.list() if c.snapshot]
    for image in engine.images.images():
        chain: ChainID | None = None
        for diff in image.diff_ids:
            chain = digests.chain_id(chain, diff)
            snapshot = engine.snapshots.by_chain_id(chain)
            if snapshot is not None:
                roots.append(snapshot)
    keep: set[SnapshotID] = set()
    for root in roots:
        below: SnapshotID | None = root
        while below is not None and below not in keep and engine.snapshots.exists(below):
            keep.add(below)
            below = engine.snapshots.parent(below)
    return keep
