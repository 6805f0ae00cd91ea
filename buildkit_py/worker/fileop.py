"""File: COPY, ADD and WORKDIR. Keyed by the content of exactly the selected paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buildkit_py.cache import keys
from buildkit_py.digest import Digest, of_record
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Copy, File, Mkdir
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Key, Result
from buildkit_py.typed import Any
from buildkit_py.worker.context import BuildContext, LocalContext
from buildkit_py.worker.file import copy_content_key, run_file_op
from buildkit_py.worker.handler import ContentHandler, Taken, step_name, tell_of_change


class FileHandler(ContentHandler):
    def sources(self, op: File) -> tuple[int, ...]:
        return tuple(a.input if isinstance(a, Copy) else -1 for a in op.actions)

    def taken(
        self, ctx: BuildContext, node: Node, op: File, trees: Mapping[int, LocalContext]
    ) -> tuple[Taken, ...]:
        """One an action: of what it copies; for Mkdir of the action itself."""
        found: list[Taken] = []
        for n, action in enumerate(op.actions):
            if isinstance(action, Mkdir):
                found.append(of_record(["mkdir", *action]))
                continue
            source = trees.get(action.input)
            if source is None:
                found.append(None)
                continue
            digest, selection = copy_content_key(action, source.tree, source.statcache)
            ctx.selections[node.digest, n] = selection
            ctx.contents[digest] = selection.hashed
            found.append(digest)
        return tuple(found)

    def record(self, op: File, inputs: Sequence[Digest], taken: Sequence[Taken]) -> dict[str, Any]:
        return keys.file_record(op, inputs[0] if op.base and inputs else None, taken)

    def definition(self, op: File, inputs: Sequence[Digest], taken: Sequence[Taken]) -> dict[str, Any]:
        return keys.file_definition(op, inputs, taken)

    def run(
        self, ctx: BuildContext, node: Node, op: File, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        base = results[0] if op.base and results else None
        # The base is addressed by index like the sources, so that an action's input is the node's input.
        trees: list[Any] = [
            None if i == 0 and op.base else ctx.tree_of(result) for i, result in enumerate(results)
        ]
        selections = {
            n: ctx.selections.pop((node.digest, n))
            for n in range(len(op.actions))
            if (node.digest, n) in ctx.selections
        }
        with ctx.snapshots.prepare(base) as staged:
            run_file_op(op, ctx.snapshots.tree(base), trees, selections, staged, ctx.identity)
            snapshot = ctx.snapshots.commit(staged, base)
        # A file that changed after it was hashed is in the snapshot but not in the key.
        changed = any(selection.changed for selection in selections.values())
        if changed:
            tell_of_change(emit, node)
        ctx.keep(node, key, snapshot, step_name(node), as_looked_at=not changed)
        return snapshot
