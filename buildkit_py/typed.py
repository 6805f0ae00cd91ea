"""What the type checker reads: typing's names without typing, whose import takes as long as a fork.

The type checker sees typing's own. At run time nearly all annotations are strings that nobody evaluates,
and each name is only as much as an ordinary use of it needs. buildkit_py.runtime.config reads some
annotations, and takes what stands here for "anything". A module of which more is read (msgspec's
structures) imports typing.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import IO as IO
    from typing import Any as Any
    from typing import BinaryIO as BinaryIO
    from typing import Final as Final
    from typing import Literal as Literal
    from typing import NewType as NewType
    from typing import NoReturn as NoReturn
    from typing import NotRequired as NotRequired
    from typing import Protocol as Protocol
    from typing import TextIO as TextIO
    from typing import TypedDict as TypedDict
    from typing import TypeVar as TypeVar
    from typing import cast as cast
else:

    class Any:
        """Any type; also one of the values that Literal[...] lists."""

        def __class_getitem__(cls, parameters):
            return cls

    class Protocol:
        pass

    IO = BinaryIO = Final = Literal = NoReturn = TextIO = Any
    NotRequired = TypedDict = dict

    class _Same:
        def __new__(cls, value):
            return value

    def NewType(name, base):
        return _Same

    def TypeVar(name, **bounds):
        return Any

    def cast(kind, value):
        return value
