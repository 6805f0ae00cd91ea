"""typing.NamedTuple for a tenth of the time at import: the commands that matter make some sixty such classes.

typing compiles every annotation that is a string (all of them are, under ``from __future__ import
annotations``) to see that it could be a type, and collections compiles a constructor for each class. Here
the annotations are left alone, and a constructor is compiled when its class is first called: most classes of
a process never are. mypy sees typing's own class, and says so when an annotation is no type.
"""

from __future__ import annotations

from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter as _field

    _OWN = frozenset({"__annotations__", "__slots__"})
    _new = tuple.__new__

    class _Named(tuple):
        """What all of them have in common; the names are those of the standard library's."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}

        @classmethod
        def _make(cls, iterable):
            made = _new(cls, iterable)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **changes):
            made = self._make(map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)!r}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            values = ", ".join([f"{n}={v!r}" for n, v in zip(self._fields, self, strict=True)])
            return f"{type(self).__name__}({values})"

        def __getnewargs__(self):
            return tuple(self)

    def _constructor(made):
        """``made.__new__`` until it is first called, which puts the compiled one in its place."""

        def first(cls, /, *args, **kwargs):
            fields = "".join([f"{name}, " for name in made._fields])
            new = eval(f"lambda _cls, {fields}: _new(_cls, ({fields}))", {"_new": _new})
            new.__name__ = "__new__"
            new.__qualname__ = f"{made.__qualname__}.__new__"
            new.__module__ = made.__module__
            new.__annotations__ = made.__annotations__
            new.__defaults__ = tuple(made._field_defaults.values())
            made.__new__ = new
            return new(cls, *args, **kwargs)

        return first

    class _Maker(type):
        def __new__(cls, name, bases, namespace):
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            annotations = namespace.get("__annotations__", {})
            body = {key: value for key, value in namespace.items() if key not in _OWN}
            body["__slots__"] = ()
            body["__annotations__"] = annotations
            body["_fields"] = body["__match_args__"] = tuple(annotations)
            body["_field_defaults"] = {field: body[field] for field in annotations if field in body}
            for index, field in enumerate(annotations):
                body[field] = _field(index, None)
            made = type(name, (_Named,), body)
            made.__new__ = _constructor(made)
            return made

    class NamedTuple(metaclass=_Maker):
        pass
