"""A subcommand as plain data, read by two parsers.

``fast.parse`` understands well-formed command lines at no import cost; ``app`` turns the same data
into click commands for everything else (help, mistakes, completion). click takes 28 ms to import,
half of what a whole `pybuild run` may take, so a correct command line never loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from buildkit_py.tuples import NamedTuple

Value = bool | str | tuple[str, ...]


class Option(NamedTuple):
    """One option. Its value is a str, with ``multiple`` a tuple, for a flag a bool."""

    flags: tuple[str, ...]
    """As typed: ``-t``, ``--tag``."""
    name: str
    help: str = ""
    metavar: str = "TEXT"
    default: str = ""
    multiple: bool = False
    is_flag: bool = False
    choices: tuple[str, ...] = ()
    hidden: bool = False


class Argument(NamedTuple):
    """A positional argument; ``many`` (the last one only) takes all that is left."""

    name: str
    metavar: str = ""
    required: bool = True
    many: bool = False
    default: str = ""


class Args:
    """The parsed values of one command line, by parameter name."""

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = values

    def flag(self, name: str) -> bool:
        value = self.values[name]
        assert isinstance(value, bool)
        return value

    def text(self, name: str) -> str:
        value = self.values[name]
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.values[name]
        assert isinstance(value, tuple)
        return value

    def __repr__(self) -> str:
        return f"Args({dict(self.values)!r})"


class Command(NamedTuple):
    name: str
    help: str
    params: tuple[Option | Argument, ...]
    run: Callable[[Args], int]
    interspersed: bool = True
    """False: everything after the first positional argument belongs to the command in the image."""
    error_status: int = 0
    """Exit status for errors of pybuild itself, where the command passes another program's status
    on (docker's 125); 0: the error class's."""
    examples: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[Option, ...]:
        return tuple(p for p in self.params if isinstance(p, Option))

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return tuple(p for p in self.params if isinstance(p, Argument))


def option(
    *flags: str,
    name: str = "",
    help: str = "",
    metavar: str = "TEXT",
    default: str = "",
    multiple: bool = False,
    choices: tuple[str, ...] = (),
    hidden: bool = False,
) -> Option:
    """An option with a value; ``name`` defaults to the last of ``flags``."""
    return Option(flags, name or _name(flags), help, metavar, default, multiple, False, choices, hidden)


def flag(*flags: str, name: str = "", help: str = "", hidden: bool = False) -> Option:
    """A switch, off unless given; ``--flag=false`` turns it off again."""
    return Option(flags, name or _name(flags), help, is_flag=True, hidden=hidden)


def flag_on(*flags: str, name: str = "", help: str = "", hidden: bool = False) -> Option:
    """A switch, on unless ``--flag=false`` turns it off."""
    return Option(flags, name or _name(flags), help, default="true", is_flag=True, hidden=hidden)


def _name(flags: tuple[str, ...]) -> str:
    return flags[-1].lstrip("-").replace("-", "_")
