"""The source ops: an image's root file system, a local directory, files in the Dockerfile itself."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.cache import keys
from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import ImageSource, InlineSource, LocalSource
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Hit, Key, Result
from buildkit_py.worker.context import BuildContext
from buildkit_py.worker.handler import Handler


class ImageHandler(Handler):
    """Pulled and unpacked when a step first needs it."""

    def key(self, ctx: BuildContext, node: Node, op: ImageSource, inputs: Sequence[Digest]) -> Key:
        return keys.image_key(op)

    def run(
        self, ctx: BuildContext, node: Node, op: ImageSource, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        snapshot = ctx.images.unpack(Digest(op.digest), emit, node.digest)
        if snapshot is not None:
            ctx.index.put(key, snapshot, name=node.meta.name, step="")
        return snapshot


class LocalHandler(Handler):
    """Read in place; it has no key of its own: what is copied from it counts."""

    def key(self, ctx: BuildContext, node: Node, op: LocalSource, inputs: Sequence[Digest]) -> Key:
        return keys.key_of({"op": "local"})

    def load(self, ctx: BuildContext, node: Node, op: LocalSource, key: Key) -> Hit:
        return Hit(ctx.open_local(op.name, op.ignore).tree)


class InlineHandler(Handler):
    """Heredocs."""

    def key(self, ctx: BuildContext, node: Node, op: InlineSource, inputs: Sequence[Digest]) -> Key:
        return keys.key_of({"op": "inline", "files": op.files})

    def load(self, ctx: BuildContext, node: Node, op: InlineSource, key: Key) -> Hit:
        return Hit(ctx.open_inline(op.files))
