"""``--chmod``: octal, or symbolic as in chmod(1) and POSIX, without a umask."""

from __future__ import annotations

import stat
from collections.abc import Callable

from buildkit_py.errors import PybuildError
from buildkit_py.tuples import NamedTuple

Change = Callable[[int], int]
"""st_mode, type bits included -> the same with other permission bits."""

_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_PERMISSIONS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
_SHIFT = {"u": 6, "g": 3, "o": 0}


class _Clause(NamedTuple):
    who: int
    operator: str
    permissions: int
    conditional: bool
    """``X``: execution for directories and what somebody may execute already."""
    copied: str
    """``u``, ``g`` or ``o``: the bits come from there."""


def octal(text: str) -> int | None:
    """The mode that an octal text names; None where text is no octal number up to 07777."""
    if not text or text.strip("01234567") or int(text, 8) > 0o7777:
        return None
    return int(text, 8)


def parse(text: str) -> Change:
    """Raises PybuildError where text is neither an octal nor a symbolic mode."""
    number = octal(text)
    if number is not None:
        fixed = number
        return lambda mode: stat.S_IFMT(mode) | fixed
    if not text or text[0].isdigit():
        raise _invalid(text)
    clauses = [c for part in text.split(",") for c in _clauses(part, text)]

    def change(mode: int) -> int:
        for clause in clauses:
            mode = _apply(mode, clause)
        return mode

    return change


def _clauses(part: str, text: str) -> list[_Clause]:
    """``ug+rw-x``: one clause for each operator, all for the same classes."""
    i = 0
    who = 0
    while i < len(part) and part[i] in _WHO:
        who |= _WHO[part[i]]
        i += 1
    clauses = []
    while i < len(part):
        operator = part[i]
        i += 1
        start = i
        while i < len(part) and part[i] not in "+-=":
            i += 1
        if operator not in "+-=":
            raise _invalid(text)
        clauses.append(_clause(who or 0o7777, operator, part[start:i], text))
    if not clauses:
        raise _invalid(text)
    return clauses


def _clause(who: int, operator: str, letters: str, text: str) -> _Clause:
    if letters in _SHIFT:
        return _Clause(who, operator, 0, False, letters)
    permissions = 0
    for letter in letters:
        if letter != "X" and letter not in _PERMISSIONS:
            raise _invalid(text)
        permissions |= _PERMISSIONS.get(letter, 0)
    return _Clause(who, operator, permissions, "X" in letters, "")


def _apply(mode: int, clause: _Clause) -> int:
    bits = clause.permissions
    if clause.conditional and (stat.S_ISDIR(mode) or mode & 0o111):
        bits |= 0o111
    if clause.copied:
        bits = (mode >> _SHIFT[clause.copied] & 7) * 0o111
    bits &= clause.who
    if clause.operator == "+":
        return mode | bits
    if clause.operator == "-":
        return mode & ~bits
    keep = ~clause.who
    if stat.S_ISDIR(mode):
        keep |= 0o6000  # chmod(1): "=" leaves a directory's set-id bits unless it names them
    return mode & keep | bits


def _invalid(text: str) -> PybuildError:
    return PybuildError(
        f"invalid mode {text!r} for --chmod",
        hint="octal from 0 to 07777, or symbolic as in chmod(1): u=rwX,go=rX",
    )
