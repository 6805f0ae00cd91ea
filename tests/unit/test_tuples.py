"""The quick NamedTuple makes what typing's makes."""

from __future__ import annotations

import inspect
import keyword
import pickle
import types
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_constructor_is_compiled_when_first_called() -> None:
    class Late(tuples.NamedTuple):
        name: str
        size: int = 3

    first = Late.__new__
    assert Late("a", size=4) == ("a", 4)
    assert Late.__new__ is not first
    assert Late("b") == ("b", 3)


def test_a_subclass_is_made_by_the_same_constructor() -> None:
    class Base(tuples.NamedTuple):
        name: str

    class Derived(Base):
        pass

    made = Derived("a")
    assert type(made) is Derived and made.name == "a"
    assert type(Derived("b")._replace(name="c")) is Derived


names = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=12, unique=True).filter(
    lambda given: not any(keyword.iskeyword(name) for name in given)
)


@given(names, st.integers(0, 12), st.data())
def test_any_class_is_called_as_typing_s_is(fields: list[str], required: int, data: st.DataObject) -> None:
    defaults = {field: index for index, field in enumerate(fields) if index >= required}
    namespace = {"__annotations__": dict.fromkeys(fields, "int"), "__module__": __name__, **defaults}
    quick = _made(tuples.NamedTuple, namespace)
    plain = _made(typing.NamedTuple, namespace)
    args = data.draw(st.lists(st.integers(), max_size=len(fields) + 1))
    kwargs = data.draw(st.dictionaries(st.sampled_from([*fields, "other"]), st.integers(), max_size=4))
    assert _outcome(quick, args, kwargs) == _outcome(plain, args, kwargs)
    # The second call meets the compiled constructor.
    assert _outcome(quick, args, kwargs) == _outcome(plain, args, kwargs)
    assert quick._fields == plain._fields and quick._field_defaults == plain._field_defaults
    assert _parameters(quick) == _parameters(plain)
    values = range(len(fields))
    assert quick._make(values)._asdict() == plain._make(values)._asdict()
    with pytest.raises(TypeError):
        quick._make(range(len(fields) + 1))
    with pytest.raises(ValueError):
        quick._make(values)._replace(other_than_all=1)


def _made(base: Any, namespace: dict[str, Any]) -> Any:
    return types.new_class("Made", (base,), exec_body=lambda body: body.update(namespace))


def _parameters(kind: Any) -> list[tuple[str, Any]]:
    return [(p.name, p.default) for p in inspect.signature(kind.__new__).parameters.values()]


def _outcome(kind: Any, args: list[int], kwargs: dict[str, int]) -> Any:
    try:
        made = kind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return tuple(made), repr(made), [getattr(made, field) for field in kind._fields]
