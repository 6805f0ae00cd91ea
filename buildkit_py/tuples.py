"""typing.NamedTuple without its checks: the same classes for a third of the time at import.

typing compiles every annotation that is a string (all of them are, under ``from __future__ import
annotations``) to see that it could be a type. mypy sees typing's own class, and says so when it is not.
The commands that matter make some sixty of these classes, and take sixty milliseconds in all.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    _OWN = frozenset({"__module__", "__qualname__", "__annotations__", "__slots__"})

    class _Maker(type):
        def __new__(cls, name, bases, namespace):
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            annotations = namespace.get("__annotations__", {})
            defaults = [namespace[field] for field in annotations if field in namespace]
            made = namedtuple(name, annotations, defaults=defaults, module=namespace["__module__"])
            made.__qualname__ = namespace["__qualname__"]
            made.__annotations__ = made.__new__.__annotations__ = annotations
            for key, value in namespace.items():
                if key not in _OWN and key not in annotations:
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Maker):
        pass
