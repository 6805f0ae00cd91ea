"""``rewrite-timestamp=true``: files of this build's layers get no time later than SOURCE_DATE_EPOCH.

Layers of the base image stay what they are. A layer with other times is another layer, so each is made again
as a snapshot, once: the index keeps it under the old one and the time.
"""

from __future__ import annotations

import tempfile

from buildkit_py.cache import keys
from buildkit_py.digest import DiffID, Digest, SnapshotID
from buildkit_py.llb.graph import Graph
from buildkit_py.llb.ops import File, ImageSource
from buildkit_py.progress.events import Emit
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.snapshot.store import LayerInfo

STEP = "rewrite timestamps"


def rewritten(
    engine: Engine, graph: Graph, root: Digest | None, snapshot: SnapshotID | None, latest: int, emit: Emit
) -> SnapshotID | None:
    """The snapshot with clamped times. ``latest``: seconds since 1970. Raises StoreError."""
    if snapshot is None or root is None:
        return snapshot
    engine.enter()
    chain = engine.snapshots.chain(snapshot)
    base = base_of(engine, graph, root, emit)
    kept = len(engine.snapshots.chain(base)) if base is not None else 0
    parent = chain[kept - 1].snapshot if kept else None
    for info in chain[kept:]:
        parent = _layer(engine, info, parent, latest)
    engine.index.note_uses()
    return parent


def base_of(engine: Engine, graph: Graph, root: Digest, emit: Emit) -> SnapshotID | None:
    """The snapshot of the image at the bottom."""
    node = graph.nodes[root]
    while node.inputs and not (isinstance(node.op, File) and not node.op.base):
        node = graph.nodes[node.inputs[0]]
    if not isinstance(node.op, ImageSource):
        return None
    return engine.sources.unpack(Digest(node.op.digest), emit, node.digest)


def _layer(engine: Engine, info: LayerInfo, parent: SnapshotID | None, latest: int) -> SnapshotID:
    key = keys.key_of({"op": STEP, "layer": info.snapshot, "parent": parent, "latest": latest})
    known = engine.index.get(key.digest)
    if known is not None:
        engine.index.use(key.digest)
        return known
    from buildkit_py.layer.apply import apply_layer
    from buildkit_py.layer.diff import write_layer

    under = engine.snapshots.parent(info.snapshot)
    lower = engine.snapshots.tree(under) if under is not None else None
    with tempfile.TemporaryFile(dir=engine.root) as tar, engine.snapshots.prepare() as staged:
        diff_id: DiffID = write_layer(
            engine.snapshots.layer_path(info), tar.write, lower=lower, latest_ns=latest * 10**9
        )
        tar.seek(0)
        below = engine.snapshots.tree(parent) if parent is not None else None
        apply_layer(tar, staged.fs, engine.identity, staged.owners, lower=below)
        made = engine.snapshots.commit(staged, parent, diff_id=diff_id)
    engine.index.put(key, made, name=STEP, step="")
    return made
