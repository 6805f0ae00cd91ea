"""What of the store can go: containers that ended, images, things in the cache, and all that nothing names
then.

Roots are images, containers and cache records; a snapshot or blob that no root leads to is removed. The
store's lock is held alone meanwhile, so no build loses what it just found; where that can't be had,
buildkit_py.engine.garbage does with less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial

from buildkit_py import digest as digests
from buildkit_py.cache.eviction import KINDS, Item, Rule, choose
from buildkit_py.digest import ChainID, Digest, SnapshotID
from buildkit_py.engine.garbage import Alone
from buildkit_py.engine.inventory import inventory, remove
from buildkit_py.engine.leftovers import remove_leftovers
from buildkit_py.errors import PybuildError
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


class Pruned(NamedTuple):
    """What a prune removed, or would: names to show, and bytes."""

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    freed: int = 0
    """In a dry run what of the cache would be freed."""
    left: bool = False
    """Others use the store, so all but steps was left alone."""


class PruneRequest(NamedTuple):
    containers: bool = False
    images: bool = False
    """Those without a name."""
    all_images: bool = False
    """Those that no container uses."""
    volumes: bool = False
    """Anonymous ones that no container has."""
    rules: tuple[Rule, ...] = ()
    """For the cache; none: it stays as it is."""
    dry_run: bool = False
    until: float = 0.0
    """Containers and images that were created before, in seconds since the epoch; 0: all."""
    labels: tuple[str, ...] = ()
    """``KEY`` or ``KEY=VALUE``: those that have them all."""
    not_labels: tuple[str, ...] = ()
    """Those that have none of them."""

    def wants(self, created: float, labels: Mapping[str, str]) -> bool:
        return (
            (not self.until or created < self.until)
            and all(_has(labels, text) for text in self.labels)
            and not any(_has(labels, text) for text in self.not_labels)
        )


def _has(labels: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def prune(engine: Engine, request: PruneRequest) -> Pruned:
    """Where others use the store, steps and blobs go once those that use it now have ended, and images and
    the rest of the cache if nobody uses it then."""
    engine.enter()
    if request.dry_run:
        engine.share()
        return _prune(engine, request)
    engine.snapshots.collect_dead()  # on a full disk this makes the room that the index needs
    alone = Alone(engine)
    if alone.try_to_be():
        with alone:
            return _prune(engine, request)
    from buildkit_py.engine import garbage

    containers = _containers(engine, request)
    garbage.sweep_marked(engine, wait=True)
    steps = garbage.mark(engine, request.rules, wait=True)
    freed = garbage.sweep_marked(engine, wait=True)
    if not alone.try_to_be():
        return Pruned(containers, items=steps, freed=freed, left=True)
    with alone:
        rest = _prune(engine, request)
    items = (*steps, *rest.items)
    return Pruned(containers, rest.images, rest.volumes, items, freed + rest.freed)


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
    images = _images(engine, request, containers)
    volumes, emptied = _volumes(engine, request, containers)
    items, freed = _items(engine, request)
    if not request.dry_run:
        freed = emptied + sum(remove(engine, item) for item in items) + sweep(engine)
    return Pruned(containers, images, volumes, tuple(items), freed)


def _containers(engine: Engine, request: PruneRequest) -> tuple[str, ...]:
    if not request.containers:
        return ()
    from buildkit_py.runtime import description

    gone = [
        c
        for c in engine.containers.list()
        if not c.alive() and request.wants(c.created, description.labels(c.config()))
    ]
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


def _images(engine: Engine, request: PruneRequest, removed: tuple[str, ...]) -> tuple[str, ...]:
    """``removed``: the containers that go."""
    if not (request.images or request.all_images):
        return ()
    # Those that went in a dry run's mind only are still listed.
    used = {c.image for c in engine.containers.list() if c.id not in removed}
    gone = [
        image
        for image in engine.images.images()
        if image.id not in used
        and (request.all_images or not image.names)
        and request.wants(image.created, (image.config.get("config") or {}).get("Labels") or {})
    ]
    if not request.dry_run:
        for image in gone:
            engine.images.remove(image.id, force=True)
    return tuple(name for image in gone for name in (image.names or (image.id,)))


def _volumes(engine: Engine, request: PruneRequest, removed: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """Names, and the bytes that were freed. ``removed``: the containers that go."""
    if not request.volumes:
        return (), 0
    from buildkit_py.engine.containers import users

    names = {c.name for c in engine.containers.list() if c.id in removed}
    gone, freed = [], 0
    for volume in engine.volumes.list():
        if not volume.anonymous or not request.wants(volume.created, volume.labels):
            continue
        if set(users(engine, volume.name)) - names:
            continue
        if not request.dry_run:
            try:
                freed += engine.volumes.remove(volume.name, partial(users, engine, volume.name))
            except PybuildError:
                # Taken, or removed, meanwhile.
                continue
        gone.append(volume.name)
    return tuple(gone), freed


def _items(engine: Engine, request: PruneRequest) -> tuple[list[Item], int]:
    if not request.rules:
        return [], 0
    found = inventory(engine)
    space = os.statvfs(engine.root)
    return choose(
        found.items, found.layout, request.rules, free=space.f_bavail * space.f_frsize, now=time.time()
    )


def forget_steps(engine: Engine, rules: tuple[Rule, ...]) -> tuple[Item, ...]:
    """What of the cache goes where others use the store: results of steps. Their files stay."""
    kind = KINDS[0]
    of_steps = tuple(r._replace(kinds=(kind,)) for r in rules if not r.kinds or kind in r.kinds)
    items, _ = _items(engine, PruneRequest(rules=of_steps))
    for item in items:
        remove(engine, item)
    return tuple(items)


def sweep(engine: Engine) -> int:
    """Remove what no root leads to; return the bytes freed. The store's lock must be held alone."""
    freed = 0
    keep = kept_snapshots(engine)
    for usage in sorted(engine.snapshots.usage(), key=lambda u: u.created, reverse=True):
        if usage.snapshot not in keep:
            freed += engine.snapshots.remove(usage.snapshot)
    freed += remove_leftovers(engine)
    engine.snapshots.collect_trash()
    freed += engine.containers.collect_trash() + engine.volumes.collect_trash()
    return freed + sum(engine.content.delete(blob) for blob in unnamed_blobs(engine))


def unnamed_blobs(engine: Engine) -> list[Digest]:
    """The blobs that no image and no file by HTTP is made of."""
    from buildkit_py.source.http import kept

    named = engine.images.referenced() | {digest for digest, _ in kept(engine.db)}
    return [blob for blob in engine.content.digests() if blob not in named]


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
