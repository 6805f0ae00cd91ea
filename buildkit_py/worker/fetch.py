"""What a build needs from elsewhere is fetched before anything runs.

The key of a URL is its content and the key of a git reference its commit, so every key above waits for the
answer anyway. And it is done before the process enters its identity: inside a user namespace ssh would not
find the user's home, nor trust the system's settings.
"""

from __future__ import annotations

import os
import time

from buildkit_py.digest import Digest
from buildkit_py.errors import PybuildError
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import GitSource, HttpSource
from buildkit_py.progress.events import Emit, VertexEvent, told
from buildkit_py.solver.solve import LOOK_FOR_SIGNALS
from buildkit_py.typed import Any
from buildkit_py.worker.context import BuildContext
from buildkit_py.worker.worker import HANDLERS, placed

_AT_ONCE = 4


def fetch(ctx: BuildContext, roots: tuple[Digest, ...], emit: Emit) -> frozenset[Digest]:
    """Fetch for the nodes that the roots need; return those whose progress was shown.

    All threads have ended when it returns. Raises the error of the first step that has one, with its place.
    """
    nodes = [n for n in ctx.graph.needed_for(roots) if isinstance(n.op, GitSource | HttpSource)]
    if len(nodes) <= 1:
        return frozenset(n.digest for n in nodes if _fetch_one(ctx, n, emit))
    return _fetch_many(ctx, nodes, emit)


def _fetch_many(ctx: BuildContext, nodes: list[Node], emit: Emit) -> frozenset[Digest]:
    import threading

    _ = ctx.services.remote, ctx.services.stack  # made by one thread
    todo = nodes[::-1]
    done: set[Digest] = set()
    errors: dict[Digest, BaseException] = {}

    def work() -> None:
        while todo and not errors:
            try:
                node = todo.pop()
            except IndexError:
                return
            try:
                if _fetch_one(ctx, node, emit):
                    done.add(node.digest)
            except BaseException as e:
                errors[node.digest] = e

    count = min(_AT_ONCE, len(nodes))
    threads = [threading.Thread(target=work, name=f"fetch {n}", daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(LOOK_FOR_SIGNALS)
    _wait_for_kernel(threading.active_count())
    for node in nodes:
        if node.digest in errors:
            raise errors[node.digest]
    return frozenset(done)


def _wait_for_kernel(threads: int, patience: float = 1.0) -> None:
    """join() returns a moment before a thread is gone for unshare(2)."""
    deadline = time.monotonic() + patience
    while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline:
        time.sleep(0.0002)


def _fetch_one(ctx: BuildContext, node: Node, emit: Emit) -> bool:
    """Whether there was anything to do."""
    handler: Any = HANDLERS[type(node.op)]
    if not handler.needs_fetch(node.op):
        return False
    event = VertexEvent(node.digest, node.meta.name, started=time.time())
    emit(event)
    try:
        moved = handler.fetch(ctx, node, node.op, emit)
        if moved and isinstance(node.op, HttpSource):
            # The solver finds the file here, and has nothing to run.
            ctx.starting(node, handler.key(ctx, node, node.op, ()), ())
    except BaseException as e:
        emit(event._replace(completed=time.time(), error=told(e)))
        if not isinstance(e, PybuildError):
            raise
        if isinstance(node.op, GitSource | HttpSource):
            e.word = e.word or node.op.url
        raise placed(e, node) from e
    cached = not moved and not node.meta.name.startswith("[internal]")
    emit(event._replace(completed=time.time(), cached=cached))
    return True
