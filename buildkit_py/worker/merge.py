"""Merge: the layer of input 1 on top of input 0, whatever that is (``COPY --link``). No file is touched."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.cache import keys
from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Merge
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Key, Result
from buildkit_py.worker.context import BuildContext
from buildkit_py.worker.handler import Handler, step_name


class MergeHandler(Handler):
    def key(self, ctx: BuildContext, node: Node, op: Merge, inputs: Sequence[Digest]) -> Key:
        return keys.merge_key(op, inputs)

    def run(
        self, ctx: BuildContext, node: Node, op: Merge, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        base, upper = results
        snapshot = ctx.snapshots.stack(upper, base)
        ctx.keep(node, key, snapshot, step_name(node))
        return snapshot
