"""What of the store can go: containers that ended, images, cache records, and all that nothing names then.

Roots are images, containers and cache records; a snapshot, blob or stat cache that no root leads to is
removed. The store's lock is held alone meanwhile, so no build loses what it just found.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from buildkit_py import digest as digests
from buildkit_py.digest import ChainID, SnapshotID
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.tuples import NamedTuple

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


class Pruned(NamedTuple):
    """What a prune removed (or, in a dry run, would): names to show, and bytes."""

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    freed: int = 0


class PruneRequest(NamedTuple):
    containers: bool = False
    images: bool = False
    """Those without a name."""
    all_images: bool = False
    """Those that no container uses."""
    cache: bool = False
    """Cache records, cache mounts and stat caches."""
    unused_for: float = 0.0
    """Seconds; cache records that were used since then stay."""
    dry_run: bool = False


def prune(engine: Engine, request: PruneRequest) -> Pruned:
    engine.enter()
    with _alone(engine):
        containers = _containers(engine, request)
        images = _images(engine, request)
        records = _records(engine, request)
        freed = 0 if request.dry_run else _sweep(engine, request)
    return Pruned(containers, images, records, freed)


class _alone:
    """Hold the store's lock alone: wait for builds and pulls that are under way."""

    def __init__(self, engine: Engine) -> None:
        engine.share()
        self._fd = engine.lock_fd

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_SH)


def _containers(engine: Engine, request: PruneRequest) -> tuple[str, ...]:
    if not request.containers:
        return ()
    gone = [c for c in engine.containers.list() if not c.alive()]
    if not request.dry_run:
        for container in gone:
            engine.containers.remove(container)
    return tuple(c.id for c in gone)


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


def _records(engine: Engine, request: PruneRequest) -> tuple[str, ...]:
    if not request.cache:
        return ()
    limit = time.time() - request.unused_for
    gone = [r for r in engine.index.records() if r.used <= limit]
    if not request.dry_run:
        engine.index.forget([r.key for r in gone])
        if not request.unused_for:
            for part in ("cache-mounts", "contexts", "git"):
                remove_tree(os.path.join(engine.root, part))
    return tuple(r.name for r in gone)


def _sweep(engine: Engine, request: PruneRequest) -> int:
    """Remove what no root leads to; return the bytes freed."""
    freed = 0
    keep = kept_snapshots(engine)
    for usage in sorted(engine.snapshots.usage(), key=lambda u: u.created, reverse=True):
        if usage.snapshot not in keep:
            freed += engine.snapshots.remove(usage.snapshot)
    engine.snapshots.collect_trash()
    named = engine.images.referenced()
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
