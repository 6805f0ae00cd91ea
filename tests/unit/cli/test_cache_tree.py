"""How a build's graph is drawn."""

from __future__ import annotations

from buildkit_py.cli.cache_tree import Node, draw


def lines(*nodes: tuple[str, str, str]) -> list[str]:
    """(name, state, names of inputs)"""
    return list(draw([Node(name, name, state, tuple(inputs.split())) for name, state, inputs in nodes]))


def test_a_chain_stands_in_the_order_in_which_it_runs() -> None:
    assert lines(("c", "maybe", "b"), ("a", "cached", ""), ("b", "ran", "a")) == ["✓ a", "✗ b", "? c"]


def test_what_a_step_takes_from_elsewhere_is_a_branch() -> None:
    drawn = lines(
        ("base", "cached", ""),
        ("tools", "cached", ""),
        ("make", "ran", "tools context"),
        ("copy", "ran", "base make"),
        ("test", "ran", "copy"),
    )
    assert drawn == ["✓ base", "│ ╭ ✓ tools", "│ │ ✗ make", "├─╯", "✗ copy", "✗ test"]


def test_what_is_drawn_already_is_pointed_at() -> None:
    drawn = lines(
        ("base", "cached", ""),
        ("make", "cached", "base"),
        ("one", "ran", "base make"),
        ("two", "ran", "one make"),
    )
    assert drawn == ["✓ base", "│ ╭ ↑ base", "│ │ ✓ make", "├─╯", "✗ one", "├─↑ make", "✗ two"]


def test_several_targets() -> None:
    assert lines(("a", "ran", ""), ("b", "ran", "a"), ("c", "ran", "a")) == ["✗ a", "✗ b", "↑ a", "✗ c"]


def test_a_reason_stands_behind() -> None:
    assert list(draw([Node("a", "RUN a", "ran", (), "3.0s")])) == ["✗ RUN a  (3.0s)"]
