"""Diff ids of the layers that will be in the image, taken while later steps run.

Making the tar of a layer and hashing it takes as long as some steps do, and nothing needs the diff id before
the image's config is written. One thread takes them in the order of the commits; layers of stages that are
only copied from are never asked for.
"""

from __future__ import annotations

import time
from _thread import allocate_lock  # what threading.Lock is, without importing threading
from collections.abc import Callable

from buildkit_py.digest import DiffID, Digest, SnapshotID
from buildkit_py.llb.graph import Graph
from buildkit_py.llb.ops import Exec, File, Merge
from buildkit_py.progress.events import Emit, StatusEvent
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading
    from queue import SimpleQueue

    from buildkit_py.snapshot.store import SnapshotStore


class DiffIds:
    def __init__(
        self, snapshots: SnapshotStore, graph: Graph, roots: tuple[Digest, ...], enter: Callable[[], None]
    ) -> None:
        """``enter``: become who sees the snapshots' owners as they are (Engine.enter), if need be."""
        self._snapshots = snapshots
        self._enter = enter
        self._chain = layer_nodes(graph, roots)
        self._queue: SimpleQueue[SnapshotID | None] | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._lock = allocate_lock()

    def committed(self, node: Digest, result: Any) -> None:
        """A node has been run (in any thread): begin with its layer if the image will have it."""
        if node not in self._chain or not isinstance(result, str):
            return
        with self._lock:
            queue = self._queue or self._start()
        queue.put(SnapshotID(result))

    def _start(self) -> SimpleQueue[SnapshotID | None]:
        import threading
        from queue import SimpleQueue

        queue = self._queue = SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(queue,), name="diff ids", daemon=True)
        self._thread.start()
        return queue

    def _work(self, queue: SimpleQueue[SnapshotID | None]) -> None:
        while (snapshot := queue.get()) is not None and not self._stopped:
            # An error shows again in wait(), which asks for what is missing.
            try:
                self.take(snapshot)
            except Exception:
                return

    def take(self, snapshot: SnapshotID) -> DiffID:
        """The diff id of a snapshot's topmost layer, made if it isn't known."""
        info = self._snapshots.chain(snapshot)[-1]
        if info.diff_id is not None:
            return info.diff_id
        from buildkit_py.layer.diff import diff_id

        # Where all was cached nothing had to be; a thread only takes what was just made.
        self._enter()
        lower = self._snapshots.tree(self._snapshots.parent(snapshot))
        digest = diff_id(self._snapshots.layer_path(info), lower=lower)
        self._snapshots.set_diff_id(snapshot, digest)
        return digest

    def abandon(self) -> None:
        """The build failed: end the thread after the layer that it is at."""
        self._stopped = True
        self._join()

    def _join(self) -> None:
        if self._thread is not None and self._queue is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def wait(self, snapshot: SnapshotID | None, emit: Emit, vertex: str) -> tuple[DiffID, ...]:
        """The diff ids of a snapshot's layers, the bottom one first."""
        self._join()
        if snapshot is None:
            return ()
        done: list[DiffID] = []
        for info in self._snapshots.chain(snapshot):
            done.append(info.diff_id or self.take(info.snapshot))
        now = time.time()
        emit(StatusEvent(vertex, "exporting layers", started=now, completed=now))
        return tuple(done)


def layer_nodes(graph: Graph, roots: tuple[Digest, ...]) -> frozenset[Digest]:
    """The nodes whose snapshots are layers of the roots' images."""
    found: set[Digest] = set()
    todo = list(roots)
    while todo:
        node = graph.nodes[todo.pop()]
        if node.digest in found or not isinstance(node.op, File | Exec | Merge):
            continue
        found.add(node.digest)
        if isinstance(node.op, Merge):
            todo += node.inputs
        elif node.inputs and not (isinstance(node.op, File) and not node.op.base):
            todo.append(node.inputs[0])
    return frozenset(found)
