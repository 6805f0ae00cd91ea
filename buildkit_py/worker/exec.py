"""Exec: a RUN step in a sandbox over the snapshot below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buildkit_py.cache import keys
from buildkit_py.digest import Digest
from buildkit_py.errors import PybuildError, StepError
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Copy, Exec, ImageSource, Mount
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Key, Result
from buildkit_py.typed import Any
from buildkit_py.worker.context import BuildContext, LocalContext
from buildkit_py.worker.file import copy_content_key
from buildkit_py.worker.handler import ContentHandler, Taken, step_name, tell_of_change
from buildkit_py.worker.pattern import escaped


class ExecHandler(ContentHandler):
    def sources(self, op: Exec) -> tuple[int, ...]:
        return tuple(m.input if m.kind == "bind" else -1 for m in op.mounts)

    def taken(
        self, ctx: BuildContext, node: Node, op: Exec, trees: Mapping[int, LocalContext]
    ) -> tuple[Taken, ...]:
        """One a mount."""
        found: list[Taken] = []
        for mount in op.mounts:
            if mount.kind != "bind" or mount.input < 0 or _whole_image(ctx, node, mount):
                found.append("")
                continue
            source = trees.get(mount.input)
            if source is None:
                found.append(None)
                continue
            action = Copy(mount.input, (escaped(mount.source),), "/", keep_owner=True)
            digest, selection = copy_content_key(action, source.tree, source.statcache)
            ctx.contents[digest] = selection.hashed
            found.append(digest)
        return tuple(found)

    def record(self, op: Exec, inputs: Sequence[Digest], taken: Sequence[Taken]) -> dict[str, Any]:
        return keys.exec_record(op, inputs, taken)

    def definition(self, op: Exec, inputs: Sequence[Digest], taken: Sequence[Taken]) -> dict[str, Any]:
        return keys.exec_definition(op, inputs, taken)

    def run(
        self, ctx: BuildContext, node: Node, op: Exec, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        # The sandbox's modules are loaded when something runs, not when all is cached.
        from buildkit_py.worker.process import run_step

        parent = results[0] if op.base else None
        with ctx.snapshots.prepare(parent) as staged:
            status, tail = run_step(ctx, node, op, staged, results, emit)
            if status != 0:
                command = " ".join(op.args)
                raise StepError(
                    f'process "{command}" did not complete successfully: exit code: {status}',
                    step=node.meta.name,
                    status=status,
                    log=tail,
                    hint="" if ctx.cancelled else _hint(op, status, tail),
                )
            snapshot = ctx.snapshots.commit(staged, parent)
        holds = not key.record or self._still_holds(ctx, node, op, key)
        if not holds:
            tell_of_change(emit, node)
        ctx.keep(node, key, snapshot, step_name(node), as_looked_at=holds)
        return snapshot

    def _still_holds(self, ctx: BuildContext, node: Node, op: Exec, key: Key) -> bool:
        """Whether what is mounted of a build context is what it was when the key was made of it."""
        trees = self._in_place(ctx, node, op)
        if not trees:
            return True
        told = {mount[-1] for mount in key.record["mounts"]}
        try:
            return told.issuperset(digest for digest in self.taken(ctx, node, op, trees) if digest)
        except PybuildError:
            return False  # gone by now


def _whole_image(ctx: BuildContext, node: Node, mount: Mount) -> bool:
    """Its digest says all, and it need not be fetched to be known."""
    source = ctx.graph.nodes[node.inputs[mount.input]].op
    return isinstance(source, ImageSource) and mount.source == "/"


def _hint(op: Exec, status: int, tail: Sequence[str]) -> str:
    if status == 126 and any(line.endswith("argument list too long") for line in tail):
        return "one argument holds 128 KiB at most: begin a longer script in a heredoc with #!"
    if status in (126, 127):
        from buildkit_py.linux.emulation import missing

        return missing(op.platform) or _HINTS[status]
    return _HINTS.get(status, "")


_HINTS = {
    126: "126 means that the file was found but cannot be executed: check its mode and its first line",
    127: "127 means that the command was not found: check its name, and that the base image has it",
    137: "137 means killed by signal 9: often by the kernel for lack of memory",
}
