"""What a build would do: for each step whether it is cached, what would be pulled, how long it might take."""

from __future__ import annotations

import time
from collections.abc import Mapping

from buildkit_py.digest import Digest
from buildkit_py.engine.build import Build, refuse
from buildkit_py.engine.contexts import BuildFiles, Locals
from buildkit_py.engine.diffs import DiffIds
from buildkit_py.engine.dry import DryEngine
from buildkit_py.errors import DockerfileError, StepError
from buildkit_py.history import why
from buildkit_py.history.match import label
from buildkit_py.history.record import Build as Past
from buildkit_py.history.record import Step
from buildkit_py.history.recorder import node_fields
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import HttpSource, ImageSource
from buildkit_py.progress.events import Emit
from buildkit_py.request import BuildRequest
from buildkit_py.solver.rehearse import UNKNOWN, Foreseen, Verdict, rehearse
from buildkit_py.solver.types import Hit, Key
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Any
from buildkit_py.worker.context import BuildContext, LocalContext, Promised
from buildkit_py.worker.worker import Worker

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.history.store import History


class PlannedStep(NamedTuple):
    step: Step
    verdict: Verdict
    """maybe: it runs unless what an earlier step makes comes out as it was before."""
    seconds: float | None
    """As long as it took when it last ran; None: it never did, or need not run."""
    reasons: tuple[why.Reason, ...] = ()


class Pull(NamedTuple):
    """A base image that is not here, or not whole."""

    image: str
    platform: str
    layers: int
    """Those that are missing."""
    size: int
    """Their bytes, compressed."""


class Plan(NamedTuple):
    steps: tuple[PlannedStep, ...]
    pulls: tuple[Pull, ...]
    seconds: float
    """Of the longest chain of steps that would run, as far as their times are known."""

    @property
    def cached(self) -> bool:
        """Whether nothing would run."""
        return all(step.verdict == "cached" for step in self.steps)


def plan(engine: Engine, request: BuildRequest, emit: Emit) -> Plan:
    """Raises what a build raises before its first step runs. Nothing in the store is changed."""
    refuse(request)
    engine.share()
    with DryEngine(engine) as dry:
        planner = _Planner(dry, request, emit)
        planner.files = BuildFiles.open(request, dry, emit)
        try:
            planner.load()
            return planner.plan()
        except (StepError, DockerfileError) as e:
            if not e.lines and e.start:
                e.lines = planner.files.lines()
            raise
        finally:
            planner.files.close()


class _Planner(Build):
    """As a build, up to the point where something runs."""

    engine: DryEngine

    def __init__(self, engine: DryEngine, request: BuildRequest, emit: Emit) -> None:
        engine.history.keep = 0
        super().__init__(engine, request, emit)

    def plan(self) -> Plan:
        graph = self.frontend.graph
        roots = tuple(t.root for t in self.frontend.targets if t.root is not None)
        self.diffs = DiffIds(self.engine.snapshots, graph, roots, self.engine.enter)
        self.context = self.make_context()
        ops = _Ops(self.context, self.engine)
        foreseen = rehearse(graph, roots, ops)
        for digest in ops.downloads:
            foreseen[digest] = foreseen[digest]._replace(verdict="run")
        steps = {
            digest: self.step(graph.nodes[digest], found)
            for digest, found in foreseen.items()
            if not graph.nodes[digest].meta.name.startswith("[internal]")
        }
        reasons = self.reasons(steps, foreseen)
        times = _Times(self.engine.real.history)
        planned = []
        for digest, step in steps.items():
            verdict = foreseen[digest].verdict
            seconds = None if verdict == "cached" else times.of(step)
            planned.append(PlannedStep(step, verdict, seconds, reasons.get(digest, ())))
        return Plan(tuple(planned), tuple(self.pulls(foreseen)), _longest(planned))

    def step(self, node: Node, found: Foreseen) -> Step:
        """A step as the history has it, for comparing."""
        state = "cached" if found.verdict == "cached" else "ran"
        key = found.key.digest if found.key else ""
        expired = node.digest in self.context.expired
        return Step(node.digest, node.meta.name, state, key=key, expired=expired, **node_fields(node))

    def reasons(
        self, steps: Mapping[Digest, Step], foreseen: Mapping[Digest, Foreseen]
    ) -> dict[str, tuple[why.Reason, ...]]:
        """Why steps would run, by digest."""
        for digest, step in steps.items():
            found = foreseen[digest]
            if found.key is not None and found.verdict != "cached":
                self.engine.inputs.note(
                    found.key, name=step.name, stage=step.stage, hashed=self.context.contents
                )
        every = [self.step(self.frontend.graph.nodes[d], found) for d, found in foreseen.items()]
        inputs = self.record.inputs()
        build = Past("", time.time(), 0.0, "planned", "", inputs, {}, "", tuple(every))
        found_all = why.explain(build, self.engine.real.history, self.engine.inputs)
        return {e.step.digest: e.reasons for e in found_all}

    def pulls(self, foreseen: Mapping[Digest, Foreseen]) -> list[Pull]:
        found = []
        for digest, what in foreseen.items():
            op = self.frontend.graph.nodes[digest].op
            if isinstance(op, ImageSource) and what.verdict != "cached":
                image = self.engine.images.by_any_digest(Digest(op.digest))
                layers = self.engine.sources.missing(image) if image else []
                if layers:
                    size = sum(layer.blob.size for layer in layers)
                    found.append(Pull(f"{op.ref}@{op.digest}", op.platform, len(layers), size))
        return found

    def locals(self) -> Locals:
        return _Locals(self.engine.real.root, self.files, self.request)

    def prepare(self, context: BuildContext) -> None:
        """Files of a stage are about to be read."""
        self.engine.enter()


class _Ops(Worker):
    def __init__(self, context: BuildContext, engine: DryEngine) -> None:
        super().__init__(context)
        self._engine = engine
        self.downloads: set[Digest] = set()
        """Files by HTTP that the store doesn't have; here they were fetched to know their digests."""

    def load(self, node: Node, key: Key) -> Hit | None:
        if isinstance(node.op, HttpSource) and not self._engine.real.content.has(key.record["digest"]):
            self.downloads.add(node.digest)
        hit = super().load(node, key)
        # What a shared cache has is not fetched to be looked at.
        return Hit(UNKNOWN) if hit is not None and isinstance(hit.result, Promised) else hit


class _Locals(Locals):
    """With the store's stat caches, which are not written."""

    def open(self, name: str, ignore: tuple[str, ...]) -> LocalContext:
        found = super().open(name, ignore)
        if found.statcache is not None:
            found.statcache.writes = False
        return found


class _Times:
    """How long steps took when they last ran."""

    def __init__(self, history: History) -> None:
        self._exact: dict[tuple[str, str], float] = {}
        self._by_text: dict[str, float] = {}
        for build in history.builds():
            for step in build.work:
                if step.state == "ran":
                    self._exact.setdefault((label(step), step.text), step.seconds)
                    self._by_text.setdefault(step.text, step.seconds)

    def of(self, step: Step) -> float | None:
        """By the instruction in its stage, else in any other."""
        return self._exact.get((label(step), step.text), self._by_text.get(step.text))


def _longest(planned: list[PlannedStep]) -> float:
    """Of the chains of steps that wait for one another, seconds."""
    ends: dict[str, float] = {}
    for step, verdict, seconds, _ in planned:
        before = max((ends.get(i, 0.0) for i in step.inputs), default=0.0)
        ends[step.digest] = before + (0.0 if verdict == "cached" else seconds or 0.0)
    return max(ends.values(), default=0.0)


# As documents


def document(plan: Plan) -> dict[str, Any]:
    """For --format json."""
    return {
        "cached": plan.cached,
        "seconds": round(plan.seconds, 3),
        "steps": [_step_document(n, step) for n, step in enumerate(plan.steps, 1)],
        "pulls": [pull._asdict() for pull in plan.pulls],
    }


def _step_document(number: int, planned: PlannedStep) -> dict[str, Any]:
    step = planned.step
    return {
        "number": number,
        "name": step.name,
        "verdict": planned.verdict,
        "line": step.line,
        "key": step.key or None,
        "seconds": planned.seconds,
        "reasons": [why.reason_document(reason) for reason in planned.reasons],
    }
