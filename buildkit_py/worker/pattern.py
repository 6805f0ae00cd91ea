"""Patterns of COPY and ADD: Go's ``filepath.Match`` (public documentation of package path/filepath), plus
``**`` where ``--parents`` and ``--exclude`` know it."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

from buildkit_py.errors import PybuildError

if TYPE_CHECKING:
    import re


def is_wildcard(text: str) -> bool:
    """Whether text holds an unescaped ``*``, ``?`` or ``[``."""
    i = 0
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] in "*?[":
            return True
        i += 1
    return False


def unescape(text: str) -> str:
    """A pattern without wildcards as the name that it matches."""
    if "\\" not in text:
        return text
    out = []
    chars = iter(text)
    for c in chars:
        out.append(next(chars, "\\") if c == "\\" else c)
    return "".join(out)


def escaped(name: str) -> str:
    """A pattern that matches this name alone."""
    return "".join("\\" + c if c in "\\*?[" else c for c in name)


def component(pattern: str) -> re.Pattern[str]:
    """Compile one path component; use ``fullmatch``. Raises PybuildError for a malformed pattern."""
    import re

    return re.compile(_translate(pattern, deep=False), re.DOTALL)


class Excludes:
    """``--exclude`` patterns, as in .dockerignore: a pattern that matches a directory matches what is
    below it, the last match wins, ``!`` takes back."""

    def __init__(self, patterns: Sequence[str]) -> None:
        import re

        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for text in patterns:
            negative = text.startswith("!")
            cleaned = posixpath.normpath("/" + (text[1:] if negative else text).strip()).strip("/")
            if cleaned:
                regex = _translate(cleaned, deep=True) + "(?:/.*)?"
                self._rules.append((negative, re.compile(regex, re.DOTALL)))
        self.takes_back = any(negative for negative, _ in self._rules)

    def match(self, path: str) -> bool:
        excluded = False
        for negative, regex in self._rules:
            if excluded == negative and regex.fullmatch(path):
                excluded = not negative
        return excluded


_STAR = ""
"""Stands for ``*`` among the pieces of a translation."""


def _translate(pattern: str, *, deep: bool) -> str:
    import re

    out: list[str] = []
    i = 0
    while i < len(pattern):
        c = pattern[i]
        i += 1
        if c == "*":
            stars = i
            while pattern[i : i + 1] == "*":
                i += 1
            if not deep or i == stars:
                out.append(_STAR)
            elif pattern[i : i + 1] == "/":
                i += 1
                out.append("(?:.*/)?")
            else:
                out.append(".*")
        elif c == "?":
            out.append("[^/]")
        elif c == "[":
            text, i = _class(pattern, i)
            out.append(text)
        elif c == "\\":
            if i == len(pattern):
                raise _malformed(pattern)
            out.append(re.escape(pattern[i]))
            i += 1
        else:
            out.append(re.escape(c))
    return _assemble(out)


def _assemble(pieces: list[str]) -> str:
    """Of several stars each but the last takes the shortest text that lets what stands between it and the
    next follow, and keeps to it (an atomic group): no pattern takes exponential time."""
    runs: list[list[str]] = [[]]
    for piece in pieces:
        if piece == _STAR:
            runs.append([])
        else:
            runs[-1].append(piece)
    out = ["".join(runs[0])]
    for n, run in enumerate(runs[1:], 1):
        text = "".join(run)
        last = n == len(runs) - 1
        out.append(f"[^/]*{text}" if last or "(?:.*/)?" in run or ".*" in run else f"(?>[^/]*?{text})")
    return "".join(out)


def _class(pattern: str, i: int) -> tuple[str, int]:
    """A character class whose ``[`` stands before i; returns its regular expression and what follows."""
    negated = pattern[i : i + 1] == "^"
    i += negated
    ranges: list[str] = []
    first = True
    while pattern[i : i + 1] != "]" or first:
        first = False
        low, i = _class_char(pattern, i)
        high = low
        if pattern[i : i + 1] == "-":
            high, i = _class_char(pattern, i + 1)
        if low <= high:
            ranges.append(f"\\U{ord(low):08x}-\\U{ord(high):08x}")
    body = "".join(ranges)
    if not body:
        return ("[^/]" if negated else "(?!)"), i + 1
    return (f"(?!/)[^{body}]" if negated else f"[{body}]"), i + 1


def _class_char(pattern: str, i: int) -> tuple[str, int]:
    c = pattern[i : i + 1]
    if c == "\\":
        i += 1
        c = pattern[i : i + 1]
    elif c in ("-", "]"):
        raise _malformed(pattern)
    if not c or i + 1 >= len(pattern):
        raise _malformed(pattern)
    return c, i + 1


def _malformed(pattern: str) -> PybuildError:
    return PybuildError(
        f"malformed wildcard {pattern!r}",
        hint="a class needs its closing bracket and may not begin or end with '-'; "
        "write \\[ for a bracket that is part of a name",
    )
