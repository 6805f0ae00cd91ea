"""The driver: what runs at once, and that every way of ending leaves nothing running."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Graph, Meta, Node
from buildkit_py.llb.ops import Exec, ImageSource
from buildkit_py.progress.events import CANCELED, Emit, Event, VertexEvent
from buildkit_py.solver.solve import solve
from buildkit_py.solver.types import Hit, Key, Result


class Fake:
    """Ops whose runs wait for ``gate`` or fail, by the step's name."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.ran: list[str] = []
        self.failing: set[str] = set()
        self.waiting: set[str] = set()
        self.gate = threading.Event()
        self.started = threading.Semaphore(0)
        self.cancels = 0
        self.uses: list[str] = []
        self.made_meanwhile: set[str] = set()
        self.interrupt_at = ""
        self.signal_at = ""

    def prepare(self) -> None:
        assert self.ran or threading.active_count() >= 1

    def key(self, node: Node, inputs: Sequence[Digest], by_content: bool) -> Key:
        return Key(Digest("|".join((node.meta.name, *inputs))), {})

    def content_key(self, node: Node, inputs: Sequence[Digest], results: Sequence[Result]) -> Key:
        raise AssertionError("nothing here needs content")

    def needs_content_of(self, node: Node) -> tuple[int, ...]:
        return ()

    def load(self, node: Node, key: Key) -> Hit | None:
        found = self.kept.get(key.digest)
        return None if found is None else Hit(found)

    def used(self, key: Key) -> None:
        self.uses.append(key.digest.partition("|")[0])

    def run(
        self, node: Node, key: Key, results: Sequence[Result], emit: Emit, *, forced: bool
    ) -> Result | Hit:
        name = node.meta.name
        if name in self.made_meanwhile and not forced:
            return Hit(f"made by another for {name}")
        self.started.release()
        if name == self.interrupt_at:
            _thread.interrupt_main()
        if name == self.signal_at:
            wait_until_main_thread_blocks()
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        if name in self.waiting:
            assert self.gate.wait(20)
            if self.cancels:
                raise RuntimeError("killed")
        if name in self.failing:
            raise ValueError(f"{name} failed")
        self.ran.append(name)
        self.kept[key.digest] = f"made by {name}"
        return self.kept[key.digest]

    def cancel(self) -> None:
        self.cancels += 1
        self.gate.set()


def wait_until_main_thread_blocks() -> None:
    """In the driver: asleep there, many looks in a row (proc(5), stat field 3)."""
    main = threading.main_thread()
    looks = 0
    while looks < 50:
        frame = sys._current_frames()[main.ident or 0]
        state = Path(f"/proc/self/task/{main.native_id}/stat").read_text().rpartition(")")[2].split()[0]
        looks = looks + 1 if state == "S" and frame.f_code.co_filename == solve.__code__.co_filename else 0
        os.sched_yield()


def graph_of(*names: str) -> tuple[Graph, Digest]:
    """Steps on one base, side by side, joined by the last."""
    graph = Graph()
    base = graph.add(ImageSource("base", "sha256:0", "linux/amd64"), (), Meta("base"))
    steps = [graph.add(Exec((n,), (), "/"), (base,), Meta(n)) for n in names]
    return graph, graph.add(Exec(("join",), (), "/"), tuple(steps), Meta("join"))


def run(ops: Fake, graph: Graph, root: Digest) -> tuple[dict[Digest, Any], list[VertexEvent]]:
    events: list[Event] = []
    try:
        results = solve(graph, [root], ops, events.append)
    finally:
        assert not [t for t in threading.enumerate() if t.name.startswith("step ")]
        ops.events = [e for e in events if isinstance(e, VertexEvent)]  # type: ignore[attr-defined]
    return results, ops.events  # type: ignore[attr-defined]


def test_results_and_events_of_a_first_and_a_second_build() -> None:
    ops = Fake()
    graph, root = graph_of("a", "b")
    results, events = run(ops, graph, root)
    assert results == {root: "made by join"}
    assert {e.name for e in events if e.completed and not e.cached} == {"base", "a", "b", "join"}
    _, events = run(ops, graph, root)
    assert [e.name for e in events if e.cached] == ["base", "a", "b", "join"]
    assert sorted(ops.uses) == ["a", "b", "base", "join"]
    assert len(ops.ran) == 4


def test_what_another_build_made_meanwhile_is_a_hit() -> None:
    ops = Fake()
    ops.made_meanwhile = {"a"}
    graph, root = graph_of("a", "b")
    _, events = run(ops, graph, root)
    assert [e.name for e in events if e.completed and e.cached] == ["a"]
    assert "a" not in ops.ran


def test_independent_steps_run_at_once() -> None:
    ops = Fake()
    ops.waiting = {"a", "b", "c"}

    def open_gate() -> None:
        for _ in range(4):  # the base and the three
            assert ops.started.acquire(timeout=20)
        ops.gate.set()

    opener = threading.Thread(target=open_gate)
    opener.start()
    run(ops, *graph_of("a", "b", "c"))
    opener.join()
    assert set(ops.ran) == {"base", "a", "b", "c", "join"}


def test_a_failing_step_ends_the_others_and_they_are_shown_as_canceled() -> None:
    ops = Fake()
    ops.failing, ops.waiting = {"bad"}, {"slow"}
    with pytest.raises(ValueError, match="bad failed"):
        run(ops, *graph_of("slow", "bad"))
    assert ops.cancels
    errors = {e.name: e.error for e in ops.events if e.completed and e.error}  # type: ignore[attr-defined]
    assert errors["bad"] == "bad failed"
    assert errors.get("slow", CANCELED[0]) == CANCELED[0]
    assert "join" not in ops.ran


@pytest.mark.parametrize("at", ["base", "a", "b"])
def test_an_interrupt_ends_what_runs(at: str) -> None:
    ops = Fake()
    ops.interrupt_at, ops.waiting = at, {"a", "b", at}
    with pytest.raises(KeyboardInterrupt):
        run(ops, *graph_of("a", "b"))
    assert ops.cancels
    assert "join" not in ops.ran


def test_an_interrupt_that_does_not_wake_the_main_thread_is_seen() -> None:
    """As one that comes just before that thread blocks: the thread that runs the handler is another."""
    ops = Fake()
    ops.signal_at, ops.waiting = "a", {"a", "b"}
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(ops, *graph_of("a", "b"))
    assert ops.cancels
    assert time.monotonic() - began < 10


def test_a_build_where_all_is_cached_makes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = Fake()
    graph, root = graph_of("a")
    run(ops, graph, root)
    monkeypatch.setattr(ops, "prepare", lambda: pytest.fail("prepare() is for running something"))
    run(ops, graph, root)
