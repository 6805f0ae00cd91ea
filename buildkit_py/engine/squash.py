"""``--squash``: the layers of this build become one. Those of the base image stay what they are.

The steps keep their own layers in the cache, so that the next build finds them. What is squashed is kept,
too, under the top one of them.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence

from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import TarWriter
from buildkit_py.cache import keys
from buildkit_py.digest import SnapshotID
from buildkit_py.engine.timestamps import base_of
from buildkit_py.exporter.tar import write_entries
from buildkit_py.llb.result import BuildTarget
from buildkit_py.progress.events import Emit
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.llb.graph import Graph
    from buildkit_py.snapshot.store import LayerInfo

STEP = "squash"


def squashed(
    engine: Engine, graph: Graph, target: BuildTarget, snapshot: SnapshotID | None, emit: Emit
) -> tuple[BuildTarget, SnapshotID | None]:
    """The target and its snapshot with one new layer at most. Raises StoreError."""
    if snapshot is None or target.root is None:
        return target, snapshot
    engine.enter()
    base = base_of(engine, graph, target.root, emit)
    chain = engine.snapshots.chain(snapshot)
    kept = len(engine.snapshots.chain(base)) if base is not None else 0
    new = chain[kept:]
    if len(new) < 2:
        return target, snapshot
    below = chain[kept - 1].snapshot if kept else None
    key = keys.key_of({"op": STEP, "snapshot": snapshot, "base": below})
    made = engine.index.get(key.digest)
    if made is None:
        made = _made(engine, chain, kept, below)
        engine.index.put(key, made, name=STEP, step="")
    else:
        engine.index.use(key.digest)
    engine.index.note_uses()
    return target._replace(config=_retold(target.config, kept, len(new))), made


def _made(engine: Engine, chain: Sequence[LayerInfo], kept: int, below: SnapshotID | None) -> SnapshotID:
    from buildkit_py.layer.apply import apply_layer

    paths = [engine.snapshots.layer_path(info) for info in chain]
    # Layer by layer, as a tree of the store may be one directory for many layers.
    tree = LayerTree(tuple(reversed(paths)), recorded=chain[-1].mode == "single")
    lower = engine.snapshots.tree(below) if below is not None else None
    with tempfile.TemporaryFile(dir=engine.root) as tar, engine.snapshots.prepare() as staged:
        writer = TarWriter(tar.write)
        for path in _deleted(tree, lower) if lower is not None else ():
            folder, _, name = path.rpartition("/")
            writer.add(Member(os.path.join(folder, f".wh.{name}")))
        write_entries(tree, _of(tree, tuple(f"{path}/" for path in paths[kept:])), writer)
        writer.close()
        tar.seek(0)
        apply_layer(tar, staged.fs, engine.identity, staged.owners, lower=lower)
        return engine.snapshots.commit(staged, below)


def _of(tree: Tree, layers: tuple[str, ...]) -> Iterator[Entry]:
    """The entries that lie in these layers."""
    return (entry for entry in tree.walk("") if entry.host.startswith(layers))


def _deleted(tree: Tree, lower: Tree) -> Iterator[str]:
    """The paths of the lower tree that are there no more; of a directory that alone."""
    folders = [""]
    while folders:
        for entry in lower.children(folders.pop()):
            now = tree.lookup(entry.path, follow=False)
            if now is None:
                yield entry.path
            elif stat.S_ISDIR(entry.mode) and stat.S_ISDIR(now.mode):
                folders.append(entry.path)


def _retold(config: dict[str, Any], kept: int, count: int) -> dict[str, Any]:
    """The history: the steps of this build made no layer of their own, but the last line one of all."""
    history = []
    for entry in config.get("history") or ():
        kept -= not entry.get("empty_layer")
        history.append(entry if kept >= 0 else {**entry, "empty_layer": True})
    created = {"created": config["created"]} if "created" in config else {}
    return {**config, "history": [*history, {**created, "comment": f"squashed {count} layers"}]}
