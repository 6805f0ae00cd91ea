"""What a rule finds, before settings decide what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable

from buildkit_py.frontends.dockerfile.ast import Range
from buildkit_py.tuples import NamedTuple


class Finding(NamedTuple):
    range: Range
    message: str


def near(word: str, known: Iterable[str], mark: str = "") -> str:
    """`` (did you mean $PATH?)`` where a known word is close, else nothing."""
    import difflib

    found = difflib.get_close_matches(word, [k for k in known if k != word], 1, 0.75)
    return f" (did you mean {mark}{found[0]}?)" if found else ""
