"""The syntax tree of a Dockerfile: values without behaviour.

NamedTuples, because a class of them costs a fifth of a dataclass at import (docs/adr/0003).
"""

from __future__ import annotations

from buildkit_py.tuples import NamedTuple


class Range(NamedTuple):
    """1-based, inclusive line numbers; continuation and heredoc lines count."""

    start: int
    end: int


class Heredoc(NamedTuple):
    name: str
    content: str
    """After leading tabs are removed if ``chomp``; not expanded."""
    expand: bool
    """False where any part of the delimiter was quoted."""
    chomp: bool
    """``<<-``"""
    fd: str = ""
    """Digits before ``<<``, empty for none."""


class Instruction(NamedTuple):
    name: str
    """Lower case; unknown ones too."""
    flags: tuple[str, ...]
    """``--k=v`` words, quotes and escapes removed, variables not expanded, in order."""
    args: tuple[str, ...]
    """Split as docs/dump-ast.md says for each instruction, before variable expansion."""
    json: bool
    """The arguments were a JSON array."""
    heredocs: tuple[Heredoc, ...]
    sub: Instruction | None
    """ONBUILD only: the instruction after it."""
    range: Range
    text: str
    """The joined line as written, without continuation marks; without heredoc bodies."""
    written: str = ""
    """The instruction's word as written (for casing checks)."""
    comments: tuple[str, ...] = ()
    """The comment lines directly above, without ``#`` and outer white space."""


class Stage(NamedTuple):
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    name: str
    """As written after AS, lower-cased; empty for none."""
    base: str
    """As written: variables not expanded."""
    platform: str
    """The value of --platform as written, empty for none."""
    instructions: tuple[Instruction, ...]
    """The FROM itself comes first."""


class ParseWarning(NamedTuple):
    """What the lexer alone can see (NoEmptyContinuation, …)."""

    rule: str
    message: str
    range: Range


class Dockerfile(NamedTuple):
    path: str
    lines: tuple[str, ...]
    """Source lines without line ends, for showing a place."""
    escape: str
    directives: tuple[tuple[str, str, int], ...]
    """(name, value, line number) of syntax, escape, check."""
    instructions: tuple[Instruction, ...]
    warnings: tuple[ParseWarning, ...] = ()
