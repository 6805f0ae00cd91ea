"""What an op's module provides: how its key is made, how its work is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Node
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Hit, Key, Result
from buildkit_py.worker.context import BuildContext


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
        return None if snapshot is None else Hit(snapshot)

    def run(
        self, ctx: BuildContext, node: Node, op: Any, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        raise AssertionError(f"{type(self).__name__} has no run()")


def step_name(node: Node) -> str:
    """What stays the same of a step between two builds, for finding its last result."""
    return f"{node.meta.path}:{node.meta.stage}:{node.meta.name}"
