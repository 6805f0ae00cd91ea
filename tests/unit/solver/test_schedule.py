"""The schedule under every order of events: what runs, what is spared, and that it always ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Graph, Meta
from buildkit_py.llb.ops import Copy, Exec, File, ImageSource, InlineSource
from buildkit_py.solver.schedule import FindContentKey, FindKey, Instruction, Load, Run, Schedule
from buildkit_py.solver.types import Hit, Key


class World:
    """A cache and workers made of dicts; ``order`` picks which outstanding instruction is answered next."""

    def __init__(self, graph: Graph, root: Digest, order: Callable[[int], int] = lambda n: n - 1) -> None:
        self.graph = graph
        self.root = root
        self.order = order
        self.cache: dict[str, str] = {}
        self.aliases: dict[str, Key] = {}
        self.ran: list[str] = []
        self.loaded: list[str] = []
        self.content: dict[str, str] = {}

    def solve(self) -> Schedule:
        schedule = Schedule(self.graph.needed_for((self.root,)), (self.root,))
        todo = schedule.start()
        schedule.validate()
        while todo:
            step = todo.pop(self.order(len(todo)) % len(todo))
            todo += self.answer(schedule, step)
            if len(schedule.vertices) < 100:
                schedule.validate()
        assert schedule.finished
        return schedule

    def answer(self, schedule: Schedule, step: Instruction) -> list[Instruction]:
        digest, name = step.node.digest, step.node.meta.name
        if isinstance(step, FindKey):
            definition = "|".join((name, *step.inputs))
            alias = None if step.by_content else self.aliases.get(definition)
            if isinstance(step.node.op, File) and alias is None:
                return schedule.keyed(digest, None, (1,))
            return schedule.keyed(digest, alias or Key(Digest(definition), {}))
        if isinstance(step, FindContentKey):
            key = Key(Digest("|".join((name, step.inputs[0], str(step.results[1])))), {})
            self.aliases["|".join((name, *step.inputs))] = key
            return schedule.keyed(digest, key)
        if isinstance(step, Load):
            self.loaded.append(name)
            found = self.cache.get(step.key.digest)
            return schedule.loaded(digest, None if found is None else Hit(found))
        self.ran.append(name)
        self.cache[step.key.digest] = self.content.get(name, f"made by {name}")
        return schedule.done(digest, self.cache[step.key.digest])


def image(graph: Graph, name: str = "base") -> Digest:
    return graph.add(ImageSource(name, "sha256:" + "0" * 64, "linux/amd64"), (), Meta(name))


def run(graph: Graph, name: str, *inputs: Digest, no_cache: bool = False) -> Digest:
    return graph.add(Exec((name,), (), "/"), inputs, Meta(name, no_cache=no_cache))


def copy_from(graph: Graph, name: str, base: Digest, source: Digest) -> Digest:
    return graph.add(File((Copy(1, ("/",), f"/{name}"),)), (base, source), Meta(name))


def two_stages() -> tuple[Graph, Digest]:
    graph = Graph()
    build = run(graph, "compile", run(graph, "tools", image(graph)))
    return graph, run(graph, "test", copy_from(graph, "copy", image(graph, "small"), build))


def test_first_build_runs_all_in_dependency_order() -> None:
    world = World(*two_stages())
    world.solve()
    assert sorted(world.ran) == ["base", "compile", "copy", "small", "test", "tools"]
    assert world.ran.index("tools") < world.ran.index("compile") < world.ran.index("copy")


def test_second_build_loads_the_root_alone() -> None:
    world = World(*two_stages())
    world.solve()
    world.ran.clear()
    world.loaded.clear()
    schedule = world.solve()
    assert world.ran == []
    assert world.loaded == ["test"]
    assert schedule.vertices[world.root].cached


def test_stage_built_again_with_the_same_content_hits_downstream() -> None:
    world = World(*two_stages())
    world.content = {"compile": "binary", "compile2": "binary"}
    world.solve()
    graph = Graph()
    build = run(graph, "compile2", run(graph, "tools", image(graph)))
    root = run(graph, "test", copy_from(graph, "copy", image(graph, "small"), build))
    world.graph, world.root = graph, root
    world.ran.clear()
    world.solve()
    assert world.ran == ["compile2"]


def test_lost_result_in_the_middle_is_made_again_without_what_is_above() -> None:
    world = World(*two_stages())
    world.solve()
    lost = [k for k in world.cache if k.startswith(("copy|", "test|"))]
    for key in lost:
        del world.cache[key]
    world.ran.clear()
    world.solve()
    assert world.ran == ["copy", "test"]


def test_no_cache_runs_again_and_taints_what_depends_on_it() -> None:
    def graph(no_cache: bool) -> tuple[Graph, Digest]:
        g = Graph()
        return g, run(g, "after", run(g, "fresh", image(g), no_cache=no_cache))

    world = World(*graph(False))
    world.solve()
    world.graph, world.root = graph(True)
    world.ran.clear()
    world.solve()
    assert world.ran == ["fresh", "after"]


def test_no_cache_stage_with_equal_content_spares_the_copy_below() -> None:
    g = Graph()
    fresh = run(g, "fresh", image(g), no_cache=True)
    world = World(g, copy_from(g, "copy", image(g, "small"), fresh))
    world.solve()
    world.ran.clear()
    world.solve()
    assert world.ran == ["fresh"]


def test_no_cache_stage_with_other_content_does_not_spoil_what_was_kept() -> None:
    """The copy's key is looked for anew, not taken from what the stage held before."""

    def build(no_cache: bool, content: str) -> list[str]:
        g = Graph()
        fresh = run(g, "fresh", image(g), no_cache=no_cache)
        world.graph, world.root = g, run(g, "after", copy_from(g, "copy", image(g, "small"), fresh))
        world.content = {"fresh": content}
        world.ran.clear()
        world.solve()
        return world.ran[:]

    world = World(Graph(), Digest(""))
    build(False, "old")
    assert build(True, "new") == ["fresh", "copy", "after"]
    assert build(True, "old") == ["fresh"]
    assert build(True, "new") == ["fresh"]
    assert build(False, "new") == []


def test_copy_onto_a_stage_that_was_built_in_spite_of_the_cache_is_made_again() -> None:
    g = Graph()
    fresh = run(g, "fresh", image(g), no_cache=True)
    world = World(g, copy_from(g, "copy", fresh, run(g, "tools", image(g))))
    world.solve()
    world.ran.clear()
    world.solve()
    assert world.ran == ["fresh", "copy"]


def test_a_step_that_two_stages_have_in_common_runs_again_for_one_of_them() -> None:
    g = Graph()
    kept, fresh = run(g, "common", image(g)), run(g, "common", image(g), no_cache=True)
    world = World(g, run(g, "join", run(g, "left", kept), run(g, "right", fresh)))
    world.solve()
    world.ran.clear()
    world.solve()
    assert world.ran == ["common", "right", "join"]


def test_unneeded_stage_is_never_asked() -> None:
    graph, root = two_stages()
    run(graph, "unrelated", image(graph, "other"))
    world = World(graph, root)
    schedule = world.solve()
    assert "unrelated" not in world.ran
    assert len(schedule.vertices) == 6


def test_independent_stages_are_offered_at_once() -> None:
    graph = Graph()
    stages = [run(graph, f"sleep {i}", image(graph)) for i in range(8)]
    root = graph.add(Exec(("join",), (), "/"), tuple(stages), Meta("join"))
    schedule = Schedule(graph.needed_for((root,)), (root,))
    world = World(graph, root)
    todo, runs = schedule.start(), list[Run]()
    while todo:
        step = todo.pop()
        if isinstance(step, Run) and step.node.meta.name != "base":
            runs.append(step)
        else:
            todo += world.answer(schedule, step)
    assert len(runs) == 8


@pytest.mark.parametrize("no_cache", [False, True])
def test_thousands_of_steps_do_not_exhaust_the_stack(no_cache: bool) -> None:
    graph = Graph()
    node = image(graph)
    for i in range(5000):
        node = run(graph, f"step {i}", node, no_cache=no_cache)
    world = World(graph, node)
    world.solve()
    assert len(world.ran) == 5001


@pytest.mark.parametrize("kind", ["inline", "image"])
def test_equal_nodes_are_one(kind: str) -> None:
    graph = Graph()
    op: Any = InlineSource((("a", "x", 0o644),)) if kind == "inline" else ImageSource("a", "b", "c")
    assert graph.add(op, (), Meta("one")) == graph.add(op, (), Meta("two"))
    assert len(graph.nodes) == 1


@st.composite
def worlds(draw: st.DrawFn) -> World:
    graph = Graph()
    nodes = [image(graph, f"image {i}") for i in range(draw(st.integers(1, 2)))]
    for i in range(draw(st.integers(1, 9))):
        if draw(st.booleans()):
            inputs = draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3, unique=True))
            nodes.append(run(graph, f"run {i}", *inputs, no_cache=draw(st.booleans())))
        else:
            nodes.append(
                copy_from(graph, f"copy {i}", draw(st.sampled_from(nodes)), draw(st.sampled_from(nodes)))
            )
    picks = draw(st.lists(st.integers(0, 50), max_size=200))
    return World(graph, nodes[-1], lambda n: picks.pop() if picks else n - 1)


@given(worlds(), st.data())
def test_any_graph_in_any_order_ends_and_runs_each_node_once(world: World, data: st.DataObject) -> None:
    world.solve()
    assert len(world.ran) == len(set(world.ran))
    first = set(world.ran)
    for key in sorted(world.cache):
        if data.draw(st.booleans()):
            del world.cache[key]
    world.ran.clear()
    world.solve()
    assert len(world.ran) == len(set(world.ran))
    assert set(world.ran) <= first | {n.meta.name for n in world.graph.nodes.values()}


def test_stages_that_are_copied_one_after_the_other_are_run_at_the_same_time() -> None:
    graph = Graph()
    one = run(graph, "one", image(graph))
    other = run(graph, "other", image(graph))
    root = copy_from(graph, "second", copy_from(graph, "first", run(graph, "onto", image(graph)), one), other)
    world = World(graph, root)
    schedule = Schedule(graph.needed_for((root,)), (root,))
    todo, running = schedule.start(), []
    while todo:
        step = todo.pop()
        if isinstance(step, Run) and step.node.meta.name != "base":
            running.append(step)
        else:
            todo += world.answer(schedule, step)
        schedule.validate()
    assert {step.node.meta.name for step in running} == {"one", "other", "onto"}
