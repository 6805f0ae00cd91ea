"""Exec: a RUN step in a sandbox over the snapshot below it."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.cache import keys
from buildkit_py.digest import Digest
from buildkit_py.errors import StepError
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Copy, Exec
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Key, Result
from buildkit_py.worker.context import BuildContext
from buildkit_py.worker.file import copy_content_key
from buildkit_py.worker.handler import Handler, step_name


class ExecHandler(Handler):
    def key(self, ctx: BuildContext, node: Node, op: Exec, inputs: Sequence[Digest]) -> Key:
        contents = {}
        for mount in op.mounts:
            source = ctx.in_place(node.inputs[mount.input]) if mount.input >= 0 else None
            if source is not None:
                action = Copy(mount.input, (mount.source,), "/", keep_owner=True)
                digest, selection = copy_content_key(action, source.tree, source.statcache)
                contents[mount.input] = digest
                ctx.contents[digest] = selection.hashed
        return keys.exec_key(op, inputs, contents)

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
                    hint="" if ctx.cancelled else _hint(op, status),
                )
            snapshot = ctx.snapshots.commit(staged, parent)
        ctx.index.put(key, snapshot, name=node.meta.name, step=step_name(node))
        return snapshot


def _hint(op: Exec, status: int) -> str:
    if status in (126, 127):
        from buildkit_py.worker.emulation import missing

        return missing(op.platform) or _HINTS[status]
    return _HINTS.get(status, "")


_HINTS = {
    126: "126 means that the file was found but cannot be executed: check its mode and its first line",
    127: "127 means that the command was not found: check its name, and that the base image has it",
    137: "137 means killed by signal 9: often by the kernel for lack of memory",
}
