"""Patterns of COPY and ADD: Go's ``filepath.Match`` (public documentation of package path/filepath), plus
``**`` where ``--parents`` and ``--exclude`` know it."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from buildkit_py.errors import PybuildError
from buildkit_py.typed import TYPE_CHECKING

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

    from buildkit_py import globs

    try:
        return re.compile(globs.component(pattern), re.DOTALL)
    except ValueError:
        raise _malformed(pattern) from None


class Excludes:
    """``--exclude`` patterns, as in .dockerignore: a pattern that matches a directory matches what is
    below it, the last match wins, ``!`` takes back."""

    def __init__(self, patterns: Sequence[str]) -> None:
        import re

        from buildkit_py import globs

        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for text in patterns:
            negative = text.startswith("!")
            cleaned = posixpath.normpath("/" + (text[1:] if negative else text).strip()).strip("/")
            if cleaned:
                try:
                    regex = globs.translate(cleaned) + "(?:/.*)?"
                except ValueError:
                    raise _malformed(cleaned) from None
                self._rules.append((negative, re.compile(regex, re.DOTALL)))
        self.takes_back = any(negative for negative, _ in self._rules)

    def match(self, path: str) -> bool:
        excluded = False
        for negative, regex in self._rules:
            if excluded == negative and regex.fullmatch(path):
                excluded = not negative
        return excluded


def _malformed(pattern: str) -> PybuildError:
    return PybuildError(
        f"malformed wildcard {pattern!r}",
        hint="a class needs its closing bracket and may not begin or end with '-'; "
        "write \\[ for a bracket that is part of a name",
    )
