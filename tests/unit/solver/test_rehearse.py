"""What a solve would do, told without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Graph, Meta, Node
from buildkit_py.llb.ops import Copy, Exec, File, ImageSource
from buildkit_py.progress.events import Emit
from buildkit_py.solver.rehearse import rehearse
from buildkit_py.solver.types import Hit, Key


class Cache:
    """Ops over a dict of results by key. Copies are keyed by what their second input holds."""

    def __init__(self, results: dict[str, str]) -> None:
        self.results = results
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def key(self, node: Node, inputs: Sequence[Digest], by_content: bool) -> Key | None:
        if isinstance(node.op, File):
            return None
        return Key(Digest("|".join((node.meta.name, *inputs))), {})

    def needs_content_of(self, node: Node) -> tuple[int, ...]:
        return (1,)

    def content_key(self, node: Node, inputs: Sequence[Digest], results: Sequence[Any]) -> Key:
        return Key(Digest("|".join((node.meta.name, inputs[0], results[1]))), {})

    def load(self, node: Node, key: Key) -> Hit | None:
        found = self.results.get(key.digest)
        return None if found is None else Hit(found)

    def run(self, node: Node, key: Key, results: Sequence[Any], emit: Emit, *, forced: bool) -> Any:
        raise AssertionError(f"{node.meta.name} was run")

    def used(self, key: Key) -> None:
        raise AssertionError("nothing is used")

    def cancel(self) -> None:
        raise AssertionError("nothing runs")


def graph(*, no_cache: bool = False) -> tuple[Graph, Digest]:
    made = Graph()
    base = made.add(ImageSource("b", "sha256:b", "linux/amd64"), (), Meta("base"))
    stage = made.add(Exec(("make",), (), "/"), (base,), Meta("make", no_cache=no_cache))
    copy = made.add(File((Copy(1, ("out",), "/"),)), (base, stage), Meta("copy"))
    return made, made.add(Exec(("test",), (), "/"), (copy,), Meta("test"))


RESULTS = {
    "base": "the base",
    "make|base": "what was made",
    "copy|base|what was made": "copied",
    "test|copy|base|what was made": "tested",
}


def told(results: dict[str, str], *, no_cache: bool = False) -> dict[str, tuple[str, bool]]:
    """By the nodes' names: the verdict, and whether the key is known."""
    made, root = graph(no_cache=no_cache)
    found = rehearse(made, [root], Cache(results))
    return {made.nodes[d].meta.name: (f.verdict, f.key is not None) for d, f in found.items()}


def test_all_is_cached() -> None:
    assert set(told(RESULTS).values()) == {("cached", True)}


def test_a_key_that_needs_content_of_a_hit_is_made() -> None:
    without = {k: v for k, v in RESULTS.items() if not k.startswith("copy")}
    assert told(without)["copy"] == ("cached", True)  # spared by the hit above it
    del without["test|copy|base|what was made"]
    assert told(without)["copy"] == ("run", True)


def test_what_stands_on_unknown_content_is_uncertain() -> None:
    without = {k: v for k, v in RESULTS.items() if k != "make|base"}
    assert told(without) == {
        "base": ("cached", True),
        "make": ("run", True),
        "copy": ("maybe", False),
        "test": ("maybe", False),
    }


def test_nothing_is_there() -> None:
    assert {verdict for verdict, _ in told({}).values()} == {"run", "maybe"}


def test_no_cache() -> None:
    found = told(RESULTS, no_cache=True)
    assert found["base"][0] == "cached" and found["make"][0] == "run" and found["copy"][0] == "maybe"


def test_no_root() -> None:
    made, _ = graph()
    assert rehearse(made, [], Cache({})) == {}
