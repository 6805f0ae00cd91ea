"""What goes by which rule: numbers in, a list out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.cache.eviction import Item, Layout, Rule, Space, choose

NOW = 1000.0


def step(name: str, used: float = 0.0, size: int = 10, **more: Any) -> Item:
    return Item(f"sha256:{name}", "regular", name, size, 0.0, used, snapshot=name, **more)


def mount(name: str, used: float = 0.0, size: int = 10) -> Item:
    return Item(name, "exec.cachemount", name, size, 0.0, used)


def chain(*names: str, sizes: int = 10, pinned: str = "") -> Layout:
    """Each on the one before it, each with a layer of its own."""
    parents: dict[str, str | None] = dict(zip(names, (None, *names), strict=False))
    return Layout(
        parents, {n: f"layer {n}" for n in names}, {f"layer {n}": sizes for n in names}, frozenset(pinned)
    )


def gone(items: list[Item], layout: Layout, *rules: Rule, free: int = 0) -> list[str]:
    return [item.name for item in choose(items, layout, rules, free=free, now=NOW)[0]]


NOTHING = chain()


def test_without_a_limit_everything_goes_the_longest_unused_first() -> None:
    assert gone([mount("new", 5), mount("old", 1)], NOTHING, Rule()) == ["old", "new"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(kinds=("exec.cachemount",)), ["m"]),
        (Rule(kinds=("source.local",)), []),
        (Rule(ids=("sha256:a",)), ["a"]),
        (Rule(ids=("a", "m")), ["a", "m"]),
        (Rule(keep_duration=NOW - 3), ["a"]),
        (Rule(keep_duration=NOW + 1), []),
        (Rule(max_used_space=15), ["a"]),
        (Rule(max_used_space=20), []),
        (Rule(max_used_space=1, reserved_space=15), ["a"]),
        (Rule(reserved_space=5), ["a", "m"]),
        (Rule(min_free_space=100), []),
        (Rule(min_free_space=105), ["a"]),
        (Rule(min_free_space=1000, reserved_space=10), ["a"]),
        (Rule(min_free_space=90, max_used_space=19), ["a"]),
    ],
    ids=str,
)
def test_rules(rule: Rule, expected: list[str]) -> None:
    assert gone([step("a", 1), mount("m", 5)], chain("a"), rule, free=100) == expected


def test_what_an_image_stands_on_stays_and_does_not_count() -> None:
    items = [step("a", 1, pinned=True), step("b", 2)]
    layout = chain("a", "b", pinned="a")
    assert gone(items, layout, Rule()) == ["b"]
    assert gone(items, layout, Rule(max_used_space=10)) == []
    assert gone(items, layout, Rule(all=True)) == ["a", "b"]
    assert choose(items, layout, [Rule(all=True)], free=0, now=NOW)[1] == 10


def test_what_others_stand_on_goes_last_and_frees_its_space_then() -> None:
    items = [step("a", 1), step("b", 1), step("c", 1)]
    assert gone(items, chain("a", "b", "c"), Rule(max_used_space=15)) == ["c", "b"]


def test_rules_follow_each_other() -> None:
    items = [mount("m", 1), step("a", 1), step("b", 2)]
    rules = Rule(kinds=("exec.cachemount",)), Rule(max_used_space=10)
    assert gone(
        items, Layout({"a": None, "b": None}, {"a": "x", "b": "y"}, {"x": 10, "y": 10}, frozenset()), *rules
    ) == ["m", "a"]


def test_a_layer_that_two_snapshots_have_is_freed_by_the_second() -> None:
    layout = Layout({"a": None, "b": None}, {"a": "x", "b": "x"}, {"x": 10}, frozenset())
    space = Space([step("a"), step("b")], layout)
    assert space.total() == 10
    assert [space.drop(step("a")), space.drop(step("b"))] == [0, 10]


@given(st.data())
def test_dropping_everything_frees_what_was_counted(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    names = [f"s{n}" for n in range(count)]
    parents: dict[str, str | None] = {
        name: data.draw(st.sampled_from([None, *names[:n]])) for n, name in enumerate(names)
    }
    layers = {name: f"layer {data.draw(st.integers(0, count))}" for name in names}
    sizes = {layer: data.draw(st.integers(0, 100)) for layer in set(layers.values())}
    held = data.draw(st.lists(st.sampled_from(names), unique=True))
    pinned = frozenset(data.draw(st.lists(st.sampled_from(names), unique=True)))
    layout = Layout(parents, layers, sizes, pinned)
    items = [step(name) for name in held]
    total = Space(items, layout).total()
    chosen, freed = choose(items, layout, [Rule(all=True)], free=0, now=NOW)
    assert len(chosen) == len(items)
    assert freed == total
    assert all(size >= 0 for size in (total, freed))
