"""File name patterns in the manner of Go's ``filepath.Match`` (Go: package path/filepath), with
``**`` for any number of directories, as regular expressions.
"""

from __future__ import annotations

import re


def translate(pattern: str) -> str:
    """A pattern as a regular expression without its end. Raises ValueError for a malformed one.

    ``**/`` is any number of directories. Each group between two ``**`` is taken at the first place where
    it fits and never tried again (atomic groups), so that no pattern can make matching exponential.
    """
    parts = pattern.split("/")
    if any("**" in part and part != "**" for part in parts):
        return _loose(pattern)
    groups: list[list[str]] = [[]]
    for part in parts:
        if part == "**":
            groups.append([])
        else:
            groups[-1].append(component(part))
    text = "/".join(groups[0])
    if len(groups) == 1:
        return text
    text += "/" if text else ""
    for group in groups[1:-1]:
        if group:
            text += f"(?>(?:[^/]+/)*?{'/'.join(group)}/)"
    if groups[-1]:
        return f"{text}(?:.*/)?{'/'.join(groups[-1])}"
    return f"{text}.+"


def component(part: str) -> str:
    """One path component. What stands between two stars is atomic, as in translate."""
    pieces: list[str] = []
    current = ""
    for token in _tokens(part):
        if token == "*":
            pieces.append(current)
            current = ""
        else:
            current += token
    pieces.append(current)
    if len(pieces) == 1:
        return current
    middle = "".join(f"(?>[^/]*?{piece})" for piece in pieces[1:-1] if piece)
    return f"{pieces[0]}{middle}[^/]*{pieces[-1]}"


def _loose(pattern: str) -> str:
    """``**`` beside other characters: ``a**b`` is ``a``, any number of directories, ``b``."""
    text = ""
    position = 0
    for found in re.finditer(r"\*\*+(/?)", pattern):
        text += "".join("[^/]*" if t == "*" else t for t in _tokens(pattern[position : found.start()]))
        position = found.end()
        text += ".*" if position == len(pattern) and not found[1] else "(?:.*/)?"
    return text + "".join("[^/]*" if t == "*" else t for t in _tokens(pattern[position:]))


def _tokens(text: str) -> list[str]:
    """Regular expressions of one character each, and ``*``."""
    found: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "*":
            found.append("*")
        elif char == "?":
            found.append("[^/]")
        elif char == "[":
            token, position = _class(text, position)
            found.append(token)
        elif char == "\\":
            if position == len(text):
                raise ValueError("a backslash ends the pattern")
            found.append(re.escape(text[position]))
            position += 1
        else:
            found.append(re.escape(char))
    return found


def _class(text: str, position: int) -> tuple[str, int]:
    """``[^a-z]`` from behind its ``[``; its regular expression and the position behind its ``]``."""
    negated = text.startswith("^", position)
    position += negated
    ranges = ""
    first = True
    while first or not text.startswith("]", position):
        first = False
        low, position = _class_character(text, position)
        high = low
        if text.startswith("-", position):
            high, position = _class_character(text, position + 1)
        if low <= high:
            ranges += f"{re.escape(low)}-{re.escape(high)}"
    if negated:
        return f"[^/{ranges}]", position + 1
    return f"(?!/)[{ranges}]" if ranges else "(?!)", position + 1


def _class_character(text: str, position: int) -> tuple[str, int]:
    char = text[position : position + 1]
    if char == "\\":
        position += 1
        char = text[position : position + 1]
    elif char in ("-", "]"):
        raise ValueError(f"malformed character class: {char} needs a backslash before it")
    if not char:
        raise ValueError("a character class [ is never closed")
    return char, position + 1
