"""The source lines around a place in a Dockerfile, with marks and a caret.

--------------------
   2 |     WORKDIR /src
   3 | >>> COPY --form=build . .
     |          ^
--------------------
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from buildkit_py.errors import DockerfileError, StepError
from buildkit_py.progress.text import clean

AROUND = 2
"""Source lines shown before and after the place."""
LONGEST_RANGE = 14
"""Lines of a place that are shown; of a longer one (a heredoc) the middle is left out."""
WIDTH = 160
"""Columns of a line that are shown; of a longer one those around the caret."""
RULE = "-" * 20

# Controls as their pictures, one column wide, so that carets fit: a stray ESC or NUL is to be seen.
_PICTURES: dict[int, str] = {c: chr(0x2400 + c) for c in range(32)}
_PICTURES |= {127: "\u2421", **dict.fromkeys((*range(128, 160), 0x2028, 0x2029), "\ufffd")}

Caret = tuple[int, int]
"""1-based line and column."""


class Style:
    """Escape sequences for a terminal that wants colours, empty texts otherwise."""

    __slots__ = ("bold", "dim", "green", "off", "red", "yellow")

    def __init__(self, colour: bool) -> None:
        self.green = "\x1b[32m" if colour else ""
        self.red = "\x1b[31m" if colour else ""
        self.yellow = "\x1b[33m" if colour else ""
        self.bold = "\x1b[1m" if colour else ""
        self.dim = "\x1b[2m" if colour else ""
        self.off = "\x1b[0m" if colour else ""


def found(error: DockerfileError | StepError) -> Caret | None:
    """Where ``error.word`` stands in its instruction's lines; where nowhere, the instruction itself."""
    if not 0 < error.start <= len(error.lines):
        return None
    numbers = range(error.start, min(error.end, len(error.lines)) + 1)
    # Rather where it is a word of its own than a part of one, or of a name.
    for around in (r"\S", r"[\w-]", r"\b\B") if error.word else ():
        pattern = re.compile(rf"(?<!{around}){re.escape(error.word)}(?!{around})")
        for number in numbers:
            place = pattern.search(error.lines[number - 1])
            if place:
                return number, place.start() + 1
    line = error.lines[error.start - 1]
    return error.start, len(line) - len(line.lstrip()) + 1


def place(
    path: str, start: int, end: int, lines: Sequence[str], style: Style, caret: Caret | None = None
) -> list[str]:
    """The name of the place and the source lines around it, ``>>>`` before those that are meant."""
    if not path:
        return []
    if start < 1:
        return [clean(path)]
    out = [f"{style.bold}{clean(path)}:{start}{style.off}"]
    if start > len(lines):
        return out
    end = min(max(end, start), len(lines))
    number, column = caret or (0, 0)
    out.append(RULE)
    before = 0
    for n in _numbers(start, end, len(lines), number):
        if before and n != before + 1:
            out.append(f"{style.dim}     |  …{style.off}")
        before = n
        marked = start <= n <= end
        source, width = _window(lines[n - 1], column if n == number and marked else 0)
        if marked:
            out.append(f"{n:4} | {style.red}>>>{style.off} {source}".rstrip())
        else:
            out.append(f"{style.dim}{n:4} |     {source}".rstrip() + style.off)
        if marked and n == number:
            out.append(f"     |     {' ' * width}{style.red}^{style.off}")
    out.append(RULE)
    return out


def _numbers(start: int, end: int, size: int, caret: int) -> list[int]:
    """The lines to show: the range and some around it, without the middle of a long one."""
    numbers = range(max(start - AROUND, 1), min(end + AROUND, size) + 1)
    if end - start < LONGEST_RANGE:
        return list(numbers)
    return [n for n in numbers if n < start + LONGEST_RANGE - 4 or n > end - 3 or n == caret]


def _window(line: str, column: int) -> tuple[str, int]:
    """What is shown of a line, and how far right of its begin the caret for ``column`` goes."""
    text = shown(line)
    at = len(shown(line[: column - 1], whole=False)) if column else 0
    if len(text) <= WIDTH:
        return text, at
    first = min(max(at - WIDTH // 2, 0), len(text) - WIDTH)
    last = first + WIDTH
    text = ("…" if first else "") + text[first:last] + ("…" if last < len(text) else "")
    return text, at - first + (1 if first else 0)


def shown(line: str, *, whole: bool = True) -> str:
    """A source line fit for a terminal: controls as pictures, tabs as wide as four columns."""
    line = line.rstrip("\r\n") if whole else line
    line = line.expandtabs(4)
    return line if line.isprintable() else line.translate(_PICTURES)
