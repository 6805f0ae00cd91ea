"""``pybuild cache tree``"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from buildkit_py.cli import build
from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.progress.text import clean, duration
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.history.record import Step

MARKS = {"cached": "✓", "ran": "✗", "run": "✗", "maybe": "?", "failed": "!", "canceled": "-", "running": "…"}


class Node(NamedTuple):
    """A step to be drawn."""

    digest: str
    name: str
    state: str
    """A key of MARKS."""
    inputs: tuple[str, ...]
    note: str = ""
    """What stands behind it."""


def run(args: Args) -> int:
    what = args.text("context")
    planned = what == "-" or "://" in what or what.startswith("git@") or os.path.isdir(what)
    nodes, title = _planned(args) if planned else _recorded(what)
    if args.text("format") == "json":
        print(json.dumps([_document(node) for node in nodes], indent=2))
        return 0
    print(title)
    for line in draw(nodes):
        print(line)
    hits = sum(node.state == "cached" for node in nodes)
    print(f"✓ {hits} cached, ✗ {len(nodes) - hits} not")
    return 0


def _document(node: Node) -> dict[str, Any]:
    return {"digest": node.digest, "name": node.name, "state": node.state, "inputs": list(node.inputs)}


def _planned(args: Args) -> tuple[list[Node], str]:
    """Of a build that would be."""
    from buildkit_py.cli.session import Session

    request = build.translate(Args({**args.values, "dry_run": True}))
    with Session("quiet") as session:
        plan = session.engine.plan(request, session.display)
    nodes = []
    for planned in plan.steps:
        note = ""
        if planned.verdict != "cached" and planned.seconds is not None:
            note = f"about {duration(planned.seconds)}"
        nodes.append(_node(planned.step, planned.verdict, note))
    return nodes, f"what a build of {clean(request.context)} would find:"


def _recorded(ref: str) -> tuple[list[Node], str]:
    """Of a build of the history."""
    from buildkit_py.engine import Engine
    from buildkit_py.history.wording import lines

    engine = Engine()
    try:
        record = engine.history.find(ref)
        reasons = {e.step.digest: e.reasons for e in engine.why(record)}
    finally:
        engine.close()
    nodes = []
    for step in record.work:
        why = reasons.get(step.digest, ())
        notes = [duration(step.seconds)] if step.state != "cached" else []
        notes += [lines(reason)[0] for reason in why[:1]]
        nodes.append(_node(step, step.state, "; ".join(notes)))
    return nodes, f"build {record.id} ({clean(record.name)}):"


def _node(step: Step, state: str, note: str) -> Node:
    return Node(step.digest, step.name, state, step.inputs, note)


def draw(nodes: Sequence[Node]) -> Iterator[str]:
    """Lines: each step below those that it needs, what it takes from elsewhere as a branch beside it."""
    drawing = _Drawing(nodes)
    needed = {digest for node in nodes for digest in node.inputs}
    for node in nodes:
        if node.digest not in needed:
            yield from drawing.chain(node.digest, "")


class _Drawing:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = {node.digest: node for node in nodes}
        self.drawn: set[str] = set()

    def chain(self, last: str, left: str) -> Iterator[str]:
        """The steps that stand on each other up to ``last``; ``left`` is what stands before each line."""
        steps: list[Node] = []
        at: str | None = last
        below = ""
        while at is not None:
            if at in self.drawn:
                below = at
                break
            node = self.nodes[at]
            self.drawn.add(at)
            steps.append(node)
            at = next((i for i in node.inputs if i in self.nodes), None)
        if below:
            yield f"{left}↑ {self._title(self.nodes[below])}"
        for node in reversed(steps):
            inputs = [i for i in node.inputs if i in self.nodes]
            for other in inputs[1:]:
                yield from self._branch(other, left)
            note = f"  ({clean(node.note)})" if node.note else ""
            yield f"{left}{MARKS.get(node.state, ' ')} {self._title(node)}{note}"

    def _branch(self, other: str, left: str) -> Iterator[str]:
        if other in self.drawn:
            yield f"{left}├─↑ {self._title(self.nodes[other])}"
            return
        lines = list(self.chain(other, ""))
        for n, line in enumerate(lines):
            edge = "╭ " if n == 0 else "│ "
            yield f"{left}│ {edge}{line}"
        yield f"{left}├─╯"

    def _title(self, node: Node) -> str:
        return clean(node.name)


def _params() -> tuple[Any, ...]:
    """Those of build, but for its argument."""
    options = [p for p in build.PARAMS if not isinstance(p, Argument)]
    return (*options, Argument("context", metavar="[BUILD|PATH]", required=False))


COMMAND = Command(
    "cache tree",
    "Draw the steps of a build: ✓ cached, ✗ not, ? perhaps.\n\n"
    "Of PATH (with the options of 'build') it shows what a build would find, and runs nothing; of BUILD, the "
    "beginning of an id or ^N for the Nth build before the latest, what was found. Without either, the "
    "latest build is drawn.",
    _params(),
    run,
    examples=("pybuild cache tree", "pybuild cache tree --build-arg VERSION=4 ."),
)
