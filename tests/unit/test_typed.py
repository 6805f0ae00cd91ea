"""typing's names at run time: enough for what modules make of them when they are loaded."""

from __future__ import annotations

import typing
from collections.abc import Callable

import pytest

from buildkit_py import typed
from buildkit_py.typed import IO, Any, Literal, NewType, NoReturn, Protocol, TextIO, TypedDict, TypeVar, cast

Name = NewType("Name", str)
T = TypeVar("T", bound=int)
Kind = Literal["a", "b"]


class Shape(Protocol):
    def area(self) -> int: ...


class Square:
    def area(self) -> int:
        return 4


class Wide(Square, Shape):
    pass


class Document(TypedDict):
    size: int


@pytest.mark.parametrize("name", [n for n in vars(typed) if n[0].isupper()])
def test_each_name_is_one_of_typing_s(name: str) -> None:
    assert hasattr(typing, name)
    assert getattr(typed, name) is not getattr(typing, name) or name == "TYPE_CHECKING"


def test_a_new_type_gives_its_values_back_as_they_are() -> None:
    values: list[Any] = ["sha256:0", 5, None]
    for value in values:
        assert Name(value) is value


def test_aliases_can_be_made() -> None:
    kinds: list[Any] = [Name, T, Kind, Any, IO[bytes], TextIO, NoReturn]
    row, function = cast(Any, tuple), cast(Any, Callable)
    for kind in kinds:
        assert kind | None == None | kind
        assert row[kind, ...].__args__ == (kind, ...)
        assert function[[kind], kind].__args__ == (kind, kind)


def test_a_protocol_and_a_typed_dict_are_plain_classes() -> None:
    shape: Shape = Wide()
    assert (shape.area(), Square().area()) == (4, 4)
    assert Document(size=3) == {"size": 3}


def test_a_cast_changes_nothing() -> None:
    value = object()
    assert cast(int, value) is value
