"""Values as Go's ``%q`` prints them, for history entries in the form that tools know."""

from __future__ import annotations

from collections.abc import Iterable

_SHORT = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def quoted(text: str) -> str:
    """``a "b"`` -> ``"a \\"b\\""``."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_character(c) for c in text) + '"'


def _character(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted_list(texts: Iterable[str]) -> str:
    """``["/bin/sh" "-c" "make"]``."""
    return "[" + " ".join(quoted(text) for text in texts) + "]"


def rune(number: int) -> str:
    """An integer under ``%q`` is a character literal: 3 -> ``'\\x03'``."""
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return "'\ufffd'"
    char = chr(number)
    if char == "'":
        return "'\\''"
    return f"'{char if char == chr(34) else _character(char)}'"
