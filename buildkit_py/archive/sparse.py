"""Maps of sparse files in tar archives: which parts of a file the archive holds, the rest is zeros.

Old GNU archives have the map in and behind the header; pax archives in the extended header (versions 0.0
and 0.1) or before the data (1.0). See the manual of GNU tar, "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from buildkit_py.errors import ImageError

MAX_SIZE = 1 << 40
"""Bytes of a file with its holes. It costs an archive nothing to promise more."""
_MAX_MAP = 1 << 20
"""Bytes."""
_BLOCK = 512

Part = tuple[int, int]
"""(offset, length)"""


def _damaged() -> ImageError:
    return ImageError("the archive has a sparse file with a damaged map")


def checked(parts: Sequence[Part], size: int, stored: int) -> list[Part]:
    """The parts, last first, as they are taken from the end. Raises ImageError.

    ``size``: bytes of the file; ``stored``: bytes that the archive holds of it.
    """
    if size > MAX_SIZE:
        raise ImageError(f"the archive has a sparse file of {size} bytes; {MAX_SIZE} are allowed")
    end = total = 0
    for offset, length in parts:
        if offset < end or length < 0:
            raise _damaged()
        end = offset + length
        total += length
    if end > size or total != stored:
        raise _damaged()
    return [part for part in reversed(parts) if part[1]]


def of_header(block: bytes, take: Callable[[int], bytes], number: Callable[[bytes], int]) -> list[Part]:
    """The map of an old GNU header; ``take`` reads on, ``number`` reads a field of a header."""
    parts: list[Part] = []
    fields, more = block[386:482], block[482]
    while True:
        for at in range(0, len(fields) - 23, 24):
            if not fields[at]:
                break
            parts.append((number(fields[at : at + 12]), number(fields[at + 12 : at + 24])))
        if not more:
            return parts
        block = take(_BLOCK)
        if len(block) < _BLOCK or len(parts) * 24 > _MAX_MAP:
            raise _damaged()
        fields, more = block[:504], block[504]


def is_sparse(records: Mapping[str, bytes]) -> bool:
    return "GNU.sparse.major" in records or "GNU.sparse.map" in records or "GNU.sparse.size" in records


def of_records(records: Mapping[str, bytes], take: Callable[[int], bytes]) -> tuple[list[Part], int, int]:
    """(map, bytes of the file, bytes of the map that were read from the data) of an extended header."""
    size = _int(records.get("GNU.sparse.realsize") or records.get("GNU.sparse.size") or b"")
    version = records.get("GNU.sparse.major", b"0"), records.get("GNU.sparse.minor", b"0")
    if version == (b"1", b"0"):
        numbers, read = _leading(take)
    elif version[0] == b"0":
        numbers, read = [_int(n) for n in records.get("GNU.sparse.map", b"").split(b",") if n], 0
    else:
        raise ImageError("the archive holds a sparse file of an unknown version")
    if len(numbers) % 2:
        raise _damaged()
    return list(zip(numbers[::2], numbers[1::2], strict=True)), size, read


def _leading(take: Callable[[int], bytes]) -> tuple[list[int], int]:
    """The numbers before the data, one a line after how many pairs there are; (them, bytes read)."""
    text, lines, wanted = bytearray(), 0, 1
    while lines < wanted:
        block = take(_BLOCK)
        if len(block) < _BLOCK or len(text) > _MAX_MAP:
            raise _damaged()
        text += block
        lines += block.count(b"\n")
        if wanted == 1 and lines:
            wanted += 2 * _int(bytes(text[: text.index(b"\n")]))
    return [_int(n) for n in bytes(text).split(b"\n")[1:wanted]], len(text)


def _int(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise _damaged()
    return int(text)
