"""The quick NamedTuple makes what typing's makes."""

from __future__ import annotations

import pickle
import typing
from typing import Any

import pytest

from buildkit_py import tuples


class Quick(tuples.NamedTuple):
    """Its docstring."""

    name: str
    size: int = 3
    kind: "Any | None" = None  # noqa: UP037  # a string in a string, as some modules have it

    @property
    def double(self) -> int:
        return 2 * self.size

    def shown(self) -> str:
        return f"{self.name}:{self.size}"


class Plain(typing.NamedTuple):
    """Its docstring."""

    name: str
    size: int = 3
    kind: "Any | None" = None  # noqa: UP037

    @property
    def double(self) -> int:
        return 2 * self.size

    def shown(self) -> str:
        return f"{self.name}:{self.size}"


@pytest.mark.parametrize("attribute", ["_fields", "_field_defaults", "__doc__", "__module__"])
def test_the_class_has_the_same_attributes(attribute: str) -> None:
    assert getattr(Quick, attribute) == getattr(Plain, attribute)


def test_instances_behave_alike() -> None:
    quick, plain = Quick("a"), Plain("a")
    assert tuple(quick) == tuple(plain) == ("a", 3, None)
    assert quick == Quick(name="a", size=3)
    assert (quick.double, quick.shown()) == (plain.double, plain.shown()) == (6, "a:3")
    assert quick._replace(size=4).size == 4
    assert repr(quick) == repr(plain).replace("Plain", "Quick")
    assert pickle.loads(pickle.dumps(quick)) == quick
    assert not hasattr(quick, "__dict__") or quick.__dict__ == {}


def test_a_missing_field_is_an_error() -> None:
    with pytest.raises(TypeError):
        Quick()  # type: ignore[call-arg]


def test_fields_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        Quick("a").name = "b"  # type: ignore[misc]
