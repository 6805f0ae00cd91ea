"""What a solve would do, without running anything: keys are made and looked up, misses are noted.

The content of what would run is not known before, so what is keyed by that content is uncertain: it runs,
unless the content comes out as it was some time.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.digest import Digest, of_record
from buildkit_py.llb.graph import Graph
from buildkit_py.solver.schedule import FindContentKey, FindKey, Instruction, Load, Schedule
from buildkit_py.solver.types import Key, Ops
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any, Final, Literal

Verdict = Literal["cached", "run", "maybe"]
UNKNOWN: Final = object()
"""The result of what would run."""


class Foreseen(NamedTuple):
    """What would become of a node."""

    verdict: Verdict
    key: Key | None
    """None where it is not known."""


def rehearse(graph: Graph, roots: Sequence[Digest], ops: Ops) -> dict[Digest, Foreseen]:
    """For each node that the roots need; one that a hit above it spares is cached too.

    ``ops.run`` is never called. Raises what making keys raises.
    """
    return _Rehearsal(graph, roots, ops).all()


class _Rehearsal:
    def __init__(self, graph: Graph, roots: Sequence[Digest], ops: Ops) -> None:
        self.schedule = Schedule(graph.needed_for(tuple(roots)), roots)
        self.ops = ops
        self.ran: set[Digest] = set()
        self.uncertain: set[Digest] = set()
        """Nodes whose key isn't known."""

    def all(self) -> dict[Digest, Foreseen]:
        todo = self.schedule.start()
        while todo:
            todo.extend(self.carry_out(todo.pop()))
        found: dict[Digest, Foreseen] = {}
        for digest, vertex in self.schedule.vertices.items():
            uncertain = digest in self.uncertain
            verdict: Verdict = "cached"
            if digest in self.ran:
                verdict = "maybe" if uncertain else "run"
            found[digest] = Foreseen(verdict, None if uncertain else vertex.key)
        return found

    def carry_out(self, step: Instruction) -> list[Instruction]:
        node, digest = step.node, step.node.digest
        if isinstance(step, FindKey):
            if any(i in self.uncertain for i in node.inputs):
                self.uncertain.add(digest)
            key = self.ops.key(node, step.inputs, step.by_content)
            return self.schedule.keyed(digest, key, () if key else self.ops.needs_content_of(node))
        if isinstance(step, FindContentKey):
            return self.schedule.keyed(digest, self.content_key(step))
        if isinstance(step, Load):
            hit = None if digest in self.uncertain else self.ops.load(node, step.key)
            return self.schedule.loaded(digest, hit)
        self.ran.add(digest)
        return self.schedule.done(digest, UNKNOWN)

    def content_key(self, step: FindContentKey) -> Key:
        results: tuple[Any, ...] = step.results
        if any(result is UNKNOWN for result in results):
            self.uncertain.add(step.node.digest)
            return Key(of_record(["unknown", step.node.digest]), {})
        self.ops.prepare()
        return self.ops.content_key(step.node, step.inputs, results)
