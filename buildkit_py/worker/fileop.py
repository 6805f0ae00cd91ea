"""File: COPY, ADD and WORKDIR. Keyed by the content of exactly the selected paths.

The key of a copy out of a build context is its content, taken before anything runs. That of a copy out of a
stage or an image can only be taken once that is built; to spare building it, the definition of the op is
kept as an alias of the content key it last led to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buildkit_py.cache import keys
from buildkit_py.digest import Digest, of_record
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Copy, File, Mkdir
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Key, Result
from buildkit_py.worker.context import BuildContext, LocalContext
from buildkit_py.worker.file import copy_content_key, run_file_op
from buildkit_py.worker.handler import Handler, step_name


class FileHandler(Handler):
    def key(self, ctx: BuildContext, node: Node, op: File, inputs: Sequence[Digest]) -> Key | None:
        sources = {i: ctx.in_place(node.inputs[i]) for i in self.content_of(op)}
        found = {i: source for i, source in sources.items() if source is not None}
        if len(found) == len(sources):
            return self._content(ctx, node, op, inputs, found)
        alias = ctx.index.alias(keys.file_definition_key(op, inputs).digest)
        if alias is not None and ctx.index.get(alias.digest) is not None:
            return alias
        return None

    def content_of(self, op: File) -> tuple[int, ...]:
        return tuple(sorted({a.input for a in op.actions if isinstance(a, Copy)}))

    def content_key(
        self, ctx: BuildContext, node: Node, op: File, inputs: Sequence[Digest], results: Sequence[Result]
    ) -> Key:
        sources = {
            i: ctx.in_place(node.inputs[i]) or LocalContext(ctx.tree_of(results[i]), None)
            for i in self.content_of(op)
        }
        key = self._content(ctx, node, op, inputs, sources)
        ctx.index.put_alias(keys.file_definition_key(op, inputs).digest, key.digest)
        return key

    def _content(
        self,
        ctx: BuildContext,
        node: Node,
        op: File,
        inputs: Sequence[Digest],
        sources: dict[int, LocalContext],
    ) -> Key:
        contents: list[Digest] = []
        for n, action in enumerate(op.actions):
            if isinstance(action, Mkdir):
                contents.append(of_record(["mkdir", *action]))
                continue
            source = sources[action.input]
            digest, selection = copy_content_key(action, source.tree, source.statcache)
            ctx.selections[node.digest, n] = selection
            ctx.contents[digest] = selection.hashed
            contents.append(digest)
        return keys.key_of(keys.file_record(op, inputs[0] if op.base and inputs else None, contents))

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
        if not any(selection.changed for selection in selections.values()):
            ctx.index.put(key, snapshot, name=node.meta.name, step=step_name(node))
        return snapshot
