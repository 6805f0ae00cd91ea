"""Drive a Schedule: carry its instructions out, in parallel where something runs, and tell the progress.

The first instructions are carried out on the calling thread. A thread is made only for work that can be slow
(a run, the hash of a stage's content), so a build where nothing changed makes none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Graph
from buildkit_py.progress.events import CANCELED, Emit, VertexEvent, told
from buildkit_py.solver.schedule import FindContentKey, FindKey, Instruction, Load, Run, Schedule
from buildkit_py.solver.types import Hit, Ops, Result
from buildkit_py.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading
    from queue import SimpleQueue

LOOK_FOR_SIGNALS = 0.5
"""Seconds."""

_T = TypeVar("_T")
_Answer = tuple[Instruction, "Callable[[], list[Instruction]] | BaseException"]


def solve(
    graph: Graph,
    roots: Sequence[Digest],
    ops: Ops,
    emit: Emit,
    shown: frozenset[Digest] = frozenset(),
) -> dict[Digest, Result]:
    """Make the results of the roots. Raises the first error of an op, after everything else has ended.

    ``shown``: nodes whose progress the caller has told; nothing more is said of them.
    """
    schedule = Schedule(graph.needed_for(tuple(roots)), roots)
    driver = _Driver(schedule, ops, emit)
    driver.shown.update(shown)
    driver.quiet = shown
    driver.loop(schedule.start())
    return {r: schedule.vertices[r].result for r in roots}


class _Driver:
    def __init__(self, schedule: Schedule, ops: Ops, emit: Emit) -> None:
        self.schedule = schedule
        self.ops = ops
        self.answers: SimpleQueue[_Answer] | None = None
        self.emit = emit
        self.threads: list[threading.Thread] = []
        self.running = 0
        """Instructions that a thread was made for and whose answer was not taken yet."""
        self.cancelled = False
        self.shown: set[Digest] = set()
        self.quiet: frozenset[Digest] = frozenset()

    def loop(self, instructions: list[Instruction]) -> None:
        todo = list(instructions)
        try:
            while todo or self.running:
                while todo:
                    step = todo.pop()
                    slow = isinstance(step, Run | FindContentKey)
                    if slow or (self.running and isinstance(step, FindKey)):
                        self._start(step)
                    else:
                        todo.extend(self._carry_out(step)())
                if self.running:
                    answer = self._next_answer()
                    self.running -= 1
                    if isinstance(answer, BaseException):
                        raise answer
                    todo.extend(answer())
        except BaseException:
            self._drain()
            raise

    def _next_answer(self) -> Callable[[], list[Instruction]] | BaseException:
        """Wait for a thread to answer.

        Not without an end: an interrupt that comes between the interpreter's last look for signals and the
        moment at which this thread blocks would not be seen before the next answer.
        """
        from queue import Empty

        assert self.answers is not None
        while True:
            try:
                return self.answers.get(timeout=LOOK_FOR_SIGNALS)[1]
            except Empty:
                continue

    def _drain(self) -> None:
        """End what runs; what ends by that is shown as canceled.

        The threads are waited for, not their answers: an interrupt may have come between the taking of an
        answer and the counting of it. Another interrupt asks again, and does not abandon a running step.
        """
        while True:
            try:
                self.cancelled = True
                self.ops.cancel()
                for thread in self.threads:
                    if thread.ident is not None:
                        thread.join()
                return
            except KeyboardInterrupt:
                continue

    def _start(self, step: Instruction) -> None:
        self.ops.prepare()
        import threading
        from queue import SimpleQueue

        if self.answers is None:
            self.answers = SimpleQueue()
        answers = self.answers

        def work() -> None:
            try:
                answers.put((step, self._carry_out(step)))
            except BaseException as e:
                answers.put((step, e))

        thread = threading.Thread(target=work, name=f"step {step.node.meta.name[:40]}", daemon=True)
        self.threads.append(thread)
        self.running += 1
        thread.start()

    def _carry_out(self, step: Instruction) -> Callable[[], list[Instruction]]:
        """Do the work of one instruction; return the report to the schedule, to be made on its thread."""
        digest = step.node.digest
        if isinstance(step, FindKey):
            key = self._shown_error(step, lambda: self.ops.key(step.node, step.inputs, step.by_content))
            content_of = self.ops.needs_content_of(step.node) if key is None else ()
            return lambda: self.schedule.keyed(digest, key, content_of)
        if isinstance(step, FindContentKey):
            content = self._shown_error(
                step, lambda: self.ops.content_key(step.node, step.inputs, step.results)
            )
            return lambda: self.schedule.keyed(digest, content)
        if isinstance(step, Load):
            hit = self.ops.load(step.node, step.key)
            if hit is not None:
                self._show_cached(digest)
            return lambda: self.schedule.loaded(digest, hit)
        result = self._run(step)
        return lambda: self.schedule.done(digest, result)

    def _run(self, step: Run) -> Result:
        node = step.node
        quiet = node.digest in self.quiet
        event = VertexEvent(node.digest, node.meta.name, started=time.time(), inputs=node.inputs)
        if not quiet:
            self.shown.add(node.digest)
            self.emit(event)
        try:
            result = self.ops.run(node, step.key, step.results, self.emit, forced=step.forced)
        except BaseException as e:
            error = CANCELED[0] if self.cancelled else str(e) or type(e).__name__
            if not quiet:
                self.emit(event._replace(completed=time.time(), error=error))
            raise
        cached = isinstance(result, Hit)
        if not quiet:
            self.emit(event._replace(completed=time.time(), cached=cached))
        return result.result if isinstance(result, Hit) else result

    def _shown_error(self, step: Instruction, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except BaseException as e:
            node, now = step.node, time.time()
            self.emit(VertexEvent(node.digest, node.meta.name, now, now, False, told(e), node.inputs))
            raise

    def _show_cached(self, digest: Digest) -> None:
        """Tell of a hit and of everything under it that it spares."""
        under = {digest}
        hits = []
        for vertex in reversed(self.schedule.vertices.values()):
            node = vertex.node
            if node.digest not in under or (node.digest in self.shown and node.digest not in self.quiet):
                continue
            if vertex.key is not None:
                self.ops.used(vertex.key)
            if node.digest not in self.shown:
                under.update(node.inputs)
                hits.append(node)
        for node in reversed(hits):
            self.shown.add(node.digest)
            now = time.time()
            cached = not node.meta.name.startswith("[internal]")
            self.emit(VertexEvent(node.digest, node.meta.name, now, now, cached, "", node.inputs))
