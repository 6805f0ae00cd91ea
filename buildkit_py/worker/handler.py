"""What an op's module provides: how its key is made, how its work is done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from buildkit_py.cache import keys
from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Node
from buildkit_py.progress.events import Emit, LogEvent
from buildkit_py.solver.types import Hit, Key, Result
from buildkit_py.typed import TYPE_CHECKING, Any
from buildkit_py.worker.context import BuildContext

if TYPE_CHECKING:
    from buildkit_py.worker.context import LocalContext

Taken = Digest | str | None
"""The digest of what is taken; "": the input's key says it; None: it can't be read before it is built."""


class Handler:
    """The work of one kind of op. ``op`` is always of the kind that worker.HANDLERS has it under.

    A handler whose ``key`` can be None overrides ``content_of`` and ``content_key`` too.
    """

    def key(self, ctx: BuildContext, node: Node, op: Any, inputs: Sequence[Digest]) -> Key | None:
        raise AssertionError(f"{type(self).__name__} has no key()")

    def content_of(self, op: Any) -> tuple[int, ...]:
        """The inputs whose content decides the key, by index."""
        return ()

    def content_key(
        self, ctx: BuildContext, node: Node, op: Any, inputs: Sequence[Digest], results: Sequence[Result]
    ) -> Key:
        raise AssertionError(f"{type(self).__name__} has no content_key()")

    def load(self, ctx: BuildContext, node: Node, op: Any, key: Key) -> Hit | None:
        snapshot = ctx.index.get(key.digest)
        if snapshot is not None and ctx.snapshots.whole(snapshot):
            return Hit(snapshot)
        promised = ctx.shared.find(node, key) if ctx.shared is not None else None
        return None if promised is None else Hit(promised)

    def run(
        self, ctx: BuildContext, node: Node, op: Any, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        raise AssertionError(f"{type(self).__name__} has no run()")


class ContentHandler(Handler):
    """Work whose key is made of what it takes from its inputs, not of their keys: two inputs with the same
    content lead to the same key.

    What is taken from a build context is looked at before anything runs. What is taken from a stage or an
    image can only be once that is built; to spare building it, the definition of the work is kept as an
    alias of the content key that it last led to.
    """

    def sources(self, op: Any) -> tuple[int, ...]:
        """For each thing that the op takes the index of the input that it is taken from; -1: none."""
        raise AssertionError(f"{type(self).__name__} has no sources()")

    def content_of(self, op: Any) -> tuple[int, ...]:
        return tuple(sorted({*self.sources(op)} - {-1}))

    def taken(
        self, ctx: BuildContext, node: Node, op: Any, trees: Mapping[int, LocalContext]
    ) -> tuple[Taken, ...]:
        """What is taken, in the order of ``sources``; ``trees`` are the inputs that can be read."""
        raise AssertionError(f"{type(self).__name__} has no taken()")

    def record(self, op: Any, inputs: Sequence[Digest], taken: Sequence[Taken]) -> dict[str, Any]:
        """The key's."""
        raise AssertionError(f"{type(self).__name__} has no record()")

    def definition(self, op: Any, inputs: Sequence[Digest], taken: Sequence[Taken]) -> dict[str, Any]:
        """As ``record``, but for what can't be read yet the inputs' keys and what is to be taken of them."""
        raise AssertionError(f"{type(self).__name__} has no definition()")

    def key(self, ctx: BuildContext, node: Node, op: Any, inputs: Sequence[Digest]) -> Key | None:
        taken = self._early(ctx, node, op)
        if None not in taken:
            return keys.key_of(self.record(op, inputs, taken))
        definition = keys.key_of(self.definition(op, inputs, taken)).digest
        ctx.definitions[node.digest] = definition
        alias = ctx.index.alias(definition)
        found = None if alias is None else ctx.index.get(alias.digest)
        if found is not None and ctx.snapshots.whole(found):
            return alias
        return ctx.shared.definition(definition) if ctx.shared is not None else None

    def early_key(self, ctx: BuildContext, node: Node, op: Any, inputs: Sequence[Digest]) -> Key | None:
        """As ``key``, but without trust in what inputs held the last time."""
        taken = self._early(ctx, node, op)
        return None if None in taken else keys.key_of(self.record(op, inputs, taken))

    def content_key(
        self, ctx: BuildContext, node: Node, op: Any, inputs: Sequence[Digest], results: Sequence[Result]
    ) -> Key:
        from buildkit_py.worker.context import LocalContext

        trees = self._in_place(ctx, node, op)
        late = {i for i in self.content_of(op) if i not in trees}
        trees |= {i: LocalContext(ctx.tree_of(results[i]), None) for i in late}
        taken = self.taken(ctx, node, op, trees)
        key = keys.key_of(self.record(op, inputs, taken))
        early = [None if i in late else t for i, t in zip(self.sources(op), taken, strict=True)]
        definition = keys.key_of(self.definition(op, inputs, early)).digest
        ctx.definitions[node.digest] = definition
        return key

    def _early(self, ctx: BuildContext, node: Node, op: Any) -> tuple[Taken, ...]:
        return self.taken(ctx, node, op, self._in_place(ctx, node, op))

    def _in_place(self, ctx: BuildContext, node: Node, op: Any) -> dict[int, LocalContext]:
        found = {i: ctx.in_place(node.inputs[i]) for i in self.content_of(op)}
        return {i: source for i, source in found.items() if source is not None}


def tell_of_change(emit: Emit, node: Node) -> None:
    """Say why the next build does the step again."""
    text = b"the build context changed while the build ran: this result is not kept in the cache\n"
    emit(LogEvent(node.digest, 2, text, time.time()))


def step_name(node: Node) -> str:
    """What stays the same of a step between two builds, for finding its last result."""
    return f"{node.meta.path}:{node.meta.stage}:{node.meta.name}"
