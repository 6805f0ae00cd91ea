"""The patterns of ``${x#p}``, ``${x%p}`` and ``${x/p/r}``: ``*`` and ``?`` and nothing else.

Matched by searching for the literal parts, never by backtracking, so that a hostile pattern costs no
more than its length times the value's over the width of a machine word. Dockerfile reference,
"Environment replacement".
"""

from __future__ import annotations

Segment = tuple[str | None, ...]
"""What stands between two ``*``: characters, None for ``?``."""

_ESCAPABLE = "*?}/"


def compile_pattern(pattern: str, escape: str) -> list[Segment]:
    """The segments between the ``*``. Raises ValueError for an escape that means nothing."""
    segments: list[Segment] = []
    segment: list[str | None] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            segments.append(tuple(segment))
            segment = []
        elif char == "?":
            segment.append(None)
        elif char == escape:
            char = pattern[position : position + 1]
            position += 1
            if not char:
                raise ValueError("the pattern ends in the middle of an escape")
            if char != escape and char not in _ESCAPABLE:
                raise ValueError(f"invalid escape {escape}{char} in a pattern")
            segment.append(char)
        else:
            segment.append(char)
    segments.append(tuple(segment))
    return segments


def remove_prefix(segments: list[Segment], value: str, *, longest: bool) -> str:
    """``value`` without the shortest or longest prefix that matches."""
    end = _match_at(segments, value, 0, longest=longest)
    return value if end < 0 else value[end:]


def remove_suffix(segments: list[Segment], value: str, *, longest: bool) -> str:
    """``value`` without the shortest or longest suffix that matches."""
    mirrored = [segment[::-1] for segment in reversed(segments)]
    return remove_prefix(mirrored, value[::-1], longest=longest)[::-1]


def replace(segments: list[Segment], value: str, replacement: str, *, every: bool) -> str:
    """``value`` with the leftmost longest match replaced, or with every one from left to right."""
    parts: list[str] = []
    position = 0
    first = _Finder(segments[0], value)
    rest = [_Finder(segment, value) for segment in segments[1:]]
    previous_end = -1
    while position <= len(value):
        start = first.find(position)
        end = -1 if start < 0 else _match_rest(rest, start + len(segments[0]), longest=True)
        if end < 0:
            break
        if end == start == previous_end:
            # An empty match just behind another one doesn't count.
            parts.append(value[start : start + 1])
            position = start + 1
            previous_end = -1
            continue
        parts.append(value[position:start])
        parts.append(replacement)
        position = previous_end = end
        if not every:
            break
    parts.append(value[position:])
    return "".join(parts)


def _match_at(segments: list[Segment], value: str, start: int, *, longest: bool) -> int:
    """Where a match that starts at ``start`` ends, -1 for none."""
    first = segments[0]
    end = start + len(first)
    if end > len(value):
        return -1
    for offset, char in enumerate(first):
        if char is not None and value[start + offset] != char:
            return -1
    return _match_rest([_Finder(segment, value) for segment in segments[1:]], end, longest=longest)


def _match_rest(finders: list[_Finder], position: int, *, longest: bool) -> int:
    for finder in finders[:-1]:
        found = finder.find(position)
        if found < 0:
            return -1
        position = found + finder.size
    if not finders:
        return position
    last = finders[-1]
    found = last.find_last(position) if longest else last.find(position)
    return -1 if found < 0 else found + last.size


class _Finder:
    """Where a segment occurs in one value."""

    __slots__ = ("_bits", "_literal", "_value", "size")

    def __init__(self, segment: Segment, value: str) -> None:
        self.size = len(segment)
        self._value = value
        self._literal: str | None = None
        self._bits = 0
        if None not in segment:
            self._literal = "".join(char for char in segment if char is not None)
        elif self.size <= len(value):
            self._bits = self._occurrences(segment, value)

    @staticmethod
    def _occurrences(segment: Segment, value: str) -> int:
        """Bit i is set where the segment matches at i: one shift and one and for each character."""
        bits = (1 << (len(value) - len(segment) + 1)) - 1
        places: dict[str, int] = {}
        for offset, char in enumerate(segment):
            if char is None:
                continue
            if char not in places:
                mask = "".join(["1" if c == char else "0" for c in reversed(value)])
                places[char] = int(mask, 2)
            bits &= places[char] >> offset
        return bits

    def find(self, position: int) -> int:
        if self._literal is not None:
            return self._value.find(self._literal, position)
        rest = self._bits >> position
        return position + (rest & -rest).bit_length() - 1 if rest else -1

    def find_last(self, position: int) -> int:
        if self._literal is not None:
            return self._value.rfind(self._literal, position)
        last = self._bits.bit_length() - 1
        return last if last >= position else -1
