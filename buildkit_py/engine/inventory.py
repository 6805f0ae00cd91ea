"""Everything in the cache of a store, with its size, its last use, and what stands on it."""

from __future__ import annotations

import os
from contextlib import suppress

from buildkit_py import digest as digests
from buildkit_py.cache.eviction import Item, Layout
from buildkit_py.digest import ChainID, Digest, SnapshotID
from buildkit_py.snapshot.usage import measure
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.cache.index import Record
    from buildkit_py.engine import Engine
    from buildkit_py.image.store import Image


class Inventory(NamedTuple):
    items: tuple[Item, ...]
    """Steps by their last use, the latest first, then the other kinds."""
    layout: Layout
    images: dict[str, tuple[SnapshotID, ...]]
    """Image (its first name, else its id) -> the snapshots of its layers that are unpacked."""


def inventory(engine: Engine) -> Inventory:
    """Layers that were never measured are measured now."""
    if engine.snapshots.unmeasured() or _entries(engine.root, "cache-mounts"):
        engine.enter()  # others than us may own what is walked through
    usage = engine.snapshots.usage()
    parents: dict[str, str | None] = {u.snapshot: u.parent for u in usage}
    images = {_name(image): _chain(engine, image) for image in engine.images.images()}
    of_snapshot: dict[str, list[str]] = {}
    for name, snapshots in images.items():
        for snapshot in snapshots:
            of_snapshot.setdefault(snapshot, []).append(name)
    used_by_containers = [c.snapshot for c in engine.containers.list() if c.snapshot]
    pinned = _with_below([*of_snapshot, *used_by_containers], parents)
    records = list(engine.index.records())
    last = _last_uses(records, parents)
    sizes = {u.layer: u.size for u in usage}
    layers: dict[str, str] = {u.snapshot: u.layer for u in usage}
    shared = {u.snapshot for u in usage if u.shared > 1 or u.children}
    items = [
        Item(
            id=record.key,
            kind="source.git.checkout" if record.record.get("op") == "git" else "regular",
            name=record.name,
            size=sizes.get(layers.get(record.snapshot, ""), 0),
            created=record.created,
            used=last.get(record.snapshot, record.used),
            uses=record.uses,
            snapshot=record.snapshot,
            images=tuple(of_snapshot.get(record.snapshot, ())),
            pinned=record.snapshot in pinned,
            shared=record.snapshot in shared,
        )
        for record in records
    ]
    items += _cache_mounts(engine.root) + _contexts(engine.root) + _repositories(engine.root) + _files(engine)
    return Inventory(tuple(items), Layout(parents, layers, sizes, frozenset(pinned)), images)


def _name(image: Image) -> str:
    return image.names[0] if image.names else image.id


def _chain(engine: Engine, image: Image) -> tuple[SnapshotID, ...]:
    found: list[SnapshotID] = []
    chain: ChainID | None = None
    for diff in image.diff_ids:
        chain = digests.chain_id(chain, diff)
        snapshot = engine.snapshots.by_chain_id(chain)
        if snapshot is not None:
            found.append(snapshot)
    return tuple(found)


def _with_below(snapshots: list[str], parents: dict[str, str | None]) -> set[str]:
    found: set[str] = set()
    for snapshot in snapshots:
        below: str | None = snapshot
        while below is not None and below in parents and below not in found:
            found.add(below)
            below = parents[below]
    return found


def _last_uses(records: list[Record], parents: dict[str, str | None]) -> dict[str, float]:
    """Who uses a step uses those below it."""
    last: dict[str, float] = {}
    for record in records:
        below: str | None = record.snapshot
        while below is not None and last.get(below, 0.0) < record.used:
            last[below] = record.used
            below = parents.get(below)
    return last


def _cache_mounts(root: str) -> list[Item]:
    found = []
    for name, path in _entries(root, "cache-mounts"):
        mount = _text(os.path.join(path, "id"))
        size, _ = measure(path)
        created, used = _time(os.path.join(path, "id")), _time(os.path.join(path, "used"))
        title = f"cache mount {mount or name}"
        found.append(Item(name, "exec.cachemount", title, size, created, max(created, used)))
    return found


def _contexts(root: str) -> list[Item]:
    """The files of one context together."""
    groups: dict[str, list[str]] = {}
    for name, path in _entries(root, "contexts"):
        groups.setdefault(name.partition(".")[0], []).append(path)
    found = []
    for name, paths in sorted(groups.items()):
        size = sum(_blocks(path) for path in paths)
        created = min(_time(path) for path in paths)
        # The kernel notes that a file is read once a day at least (mount(8), relatime).
        used = max(max(_time(path), _time(path, read=True)) for path in paths)
        found.append(Item(name, "source.local", "files of a build context", size, created, used))
    return found


def _repositories(root: str) -> list[Item]:
    found = []
    for name, path in _entries(root, "git"):
        if name.endswith(".git"):
            name = name.removesuffix(".git")
            size, _ = measure(path)
            created, used = _time(os.path.join(path, "description")), _time(f"{root}/git/{name}.lock")
            title = f"git repository {_text(os.path.join(path, 'description'))}"
            found.append(Item(name, "source.git.checkout", title, size, created, max(created, used)))
    return found


def _files(engine: Engine) -> list[Item]:
    from buildkit_py.source.http import kept

    found = []
    for digest, name in kept(engine.db):
        if engine.content.has(digest):
            path = engine.content.path(digest)
            used = _time(path)
            found.append(Item(digest, "source.http", f"file {name}", _blocks(path), used, used))
    return found


def _entries(root: str, folder: str) -> list[tuple[str, str]]:
    try:
        names = sorted(os.listdir(os.path.join(root, folder)))
    except FileNotFoundError:
        return []
    return [(name, os.path.join(root, folder, name)) for name in names]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""


def _time(path: str, *, read: bool = False) -> float:
    """When a file was last written, or read; 0 where it is not there."""
    try:
        st = os.stat(path)
    except OSError:
        return 0.0
    return st.st_atime if read else st.st_mtime


def _blocks(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0


def remove(engine: Engine, item: Item) -> int:
    """Take a thing out of the cache; the bytes freed. The snapshot of a step goes with the next sweep, if
    nothing needs it."""
    from buildkit_py.snapshot.removal import remove_tree

    if item.snapshot:
        engine.index.forget([Digest(item.id)])
        return 0
    if item.kind == "source.http":
        return engine.content.delete(Digest(item.id))
    if item.kind == "exec.cachemount":
        return remove_tree(os.path.join(engine.root, "cache-mounts", item.id))
    folder = "git" if item.kind == "source.git.checkout" else "contexts"
    for suffix in (".lock", ".memo", ".bin"):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(engine.root, folder, item.id + suffix))
    remove_tree(os.path.join(engine.root, folder, item.id + ".git"))
    return item.size
