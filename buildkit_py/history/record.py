"""A build as it is remembered, as plain values.

It holds no value of a secret, and of variables whose name looks like one's only that they were given.
"""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any


class Step(NamedTuple):
    """One vertex of a build; times are seconds since the epoch."""

    digest: str
    """Of the graph's node; ``internal:…`` where it is none."""
    name: str
    state: str
    """ran, cached, failed, canceled; running, which in a build that was killed means interrupted."""
    started: float = 0.0
    completed: float = 0.0
    error: str = ""
    lane: int = 0
    """Number of the thread among those that ran at the time."""
    op: str = ""
    """The node's kind: Exec, File, ImageSource, …; "" where it is none."""
    stage: str = ""
    line: int = 0
    """In the Dockerfile, from 1; 0: none."""
    forced: bool = False
    """It had to run: --no-cache."""
    expired: bool = False
    """It had to run: its kept result was older than --cache-ttl allows."""
    inputs: tuple[str, ...] = ()
    """Digests of nodes."""
    key: str = ""
    """Its cache key."""
    parents: tuple[str | None, ...] = ()
    """Of a step that ran: the snapshots of its inputs, None where one is no snapshot. The first one is the
    root that it ran in, see ``op``."""
    image: str = ""
    """Of an ImageSource: reference@digest."""

    @property
    def seconds(self) -> float:
        return max(0.0, self.completed - self.started)

    @property
    def text(self) -> str:
        """The instruction: the name without its place (``[build 2/4] ``)."""
        return instruction(self.name)


class Build(NamedTuple):
    id: str
    started: float
    completed: float
    """0.0: not yet, or never."""
    status: str
    """running, completed, failed, canceled, interrupted."""
    name: str
    """The image's first name, else the context's."""
    inputs: dict[str, Any]
    """context, dockerfile, digest, args, declared, target, platforms, options, bases (see recorder.py)"""
    outputs: dict[str, Any]
    """image, digest, names."""
    error: str
    steps: tuple[Step, ...]

    @property
    def seconds(self) -> float:
        return max(0.0, self.completed - self.started)

    @property
    def work(self) -> tuple[Step, ...]:
        """The steps of the Dockerfile: what is neither internal nor the export."""
        return tuple(s for s in self.steps if s.op and not s.name.startswith("[internal]"))


def instruction(name: str) -> str:
    return name.partition("] ")[2] or name if name.startswith("[") else name


def step_of(document: Mapping[str, Any]) -> Step:
    """A step by its document (fold.py)."""
    step = Step(**{"name": "", "state": "", "digest": "", **document})
    return step._replace(inputs=tuple(step.inputs), parents=tuple(step.parents))
