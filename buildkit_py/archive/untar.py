"""A streaming tar reader that trusts nothing.

Reads ustar, pax (local and global extended headers), GNU (long names, base-256 numbers, sparse files) and old
v7 archives. Multi-volume archives are refused by name. A path is given as it stands in
the archive: keeping it inside a directory is the business of whoever unpacks it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from zlib import adler32

from buildkit_py.archive import member as kinds
from buildkit_py.archive import sparse
from buildkit_py.archive.member import NO_XATTRS, Member
from buildkit_py.errors import ImageError

CHUNK = 1 << 20
MAX_HEADER = 1 << 20
"""Bytes of one extended header or long name; Linux takes no longer path and no bigger xattr list."""

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_REGULAR = frozenset((b"0", b"\0", b"7"))
_PLAIN = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_REFUSED = {
    b"M": "a part of a multi-volume archive",
    b"D": "a GNU incremental dump",
    b"N": "an old GNU long name",
}


def _number(field: bytes, what: str) -> int:
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << (8 * (len(field) - 1)))
        if first == 0xFF:
            return int.from_bytes(field, "big", signed=True)
        return value
    text = field.partition(b"\0")[0].strip()
    if not text:
        return 0
    if not text.isdigit():
        raise ImageError(f"the archive has a damaged header: {what} is {text!r}")
    try:
        return int(text, 8)
    except ValueError:
        raise ImageError(f"the archive has a damaged header: {what} is {text!r}") from None


def checksum_matches(block: bytes) -> bool:
    """Whether 512 bytes are a tar header (its checksum is right)."""
    text = block[148:156].strip(b" \0")
    if not text.isdigit():
        return False
    try:
        stated = int(text, 8)
    except ValueError:
        return False
    # adler32's low half is 1 + the sum of the bytes modulo 65521: exact for up to 256 bytes. The field
    # itself counts as eight spaces.
    actual = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2 + 256 - sum(block[148:156])
    if actual == stated:
        return True
    # Some ancient programs summed signed characters.
    return actual - 256 * sum(b > 127 for b in block[:148] + block[156:]) == stated


def _time(value: bytes) -> int:
    """Nanoseconds of a pax time: decimal seconds, maybe with a sign and a fraction."""
    negative = value.startswith(b"-")
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if not (whole or b"0").isdigit() or not (fraction or b"0").isdigit() or len(whole) > 18:
        raise ImageError(f"the archive has a damaged extended header: a time is {value[:40]!r}")
    ns = int(whole or b"0") * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -ns if negative else ns


def _decimal(value: bytes, what: str) -> int:
    if not value.isdigit() or len(value) > 19:
        raise ImageError(f"the archive has a damaged extended header: {what} is {value[:40]!r}")
    return int(value)


def _records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The (key, value) pairs of a pax extended header."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            if not data[at:].strip(b"\0"):
                return
            raise ImageError("the archive has a damaged extended header")
        end = at + int(digits)
        equals = data.find(b"=", space + 1, end)
        if end > len(data) or equals < 0 or data[end - 1 : end] != b"\n" or end <= space:
            raise ImageError("the archive has a damaged extended header")
        yield os.fsdecode(data[space + 1 : equals]), data[equals + 1 : end - 1]
        at = end


def _extended(data: bytes) -> dict[str, bytes]:
    """The records of an extended header; a map of sparse parts that comes in pieces is put together."""
    found: dict[str, bytes] = {}
    pieces: list[bytes] = []
    for key, value in _records(data):
        if key in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            pieces.append(value)
        else:
            found[key] = value
    if pieces:
        found["GNU.sparse.map"] = b",".join(pieces)
    return found


class TarReader:
    """Iterates over the members; the data of the current one is read with :meth:`read` or :meth:`copy`
    before the next one is asked for (what is left of it is skipped).

    ``read`` gives up to n bytes, ``b""`` at the end, as a binary file's does. ``skip``, where the source can
    do that, passes over n bytes. Raises ImageError for everything that is not a sound archive.
    """

    def __init__(self, read: Callable[[int], bytes], skip: Callable[[int], object] | None = None) -> None:
        self._source = read
        self._pass_over = skip
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._padding = 0
        self._parts: list[sparse.Part] | None = None
        """Of a sparse file what is still to be read, last first."""
        self._place = self._size = 0
        """In a sparse file, and of it."""
        self._global: dict[str, bytes] = {}
        self._known: dict[bytes, int] = {}

    def __iter__(self) -> Iterator[Member]:
        while (found := self.next()) is not None:
            yield found

    # the stream

    def _fill(self) -> bool:
        self._buffer = self._source(CHUNK)
        self._at = 0
        return bool(self._buffer)

    def _take(self, count: int) -> bytes:
        """Exactly count bytes, fewer only at the end of the stream."""
        at = self._at
        part = self._buffer[at : at + count]
        self._at = at + len(part)
        if len(part) == count:
            return part
        parts = [part]
        count -= len(part)
        while count and self._fill():
            part = self._buffer[:count]
            self._at = len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    @property
    def buffered(self) -> int:
        """How many bytes of what the source gave are still to be used."""
        return len(self._buffer) - self._at

    def _skip(self, count: int) -> None:
        while count:
            step = min(count, len(self._buffer) - self._at)
            self._at += step
            count -= step
            if count and self._pass_over is not None:
                self._pass_over(count)
                return
            if count and not self._fill():
                raise ImageError("the archive ends in the middle of a file")

    def drain(self) -> None:
        """Read on to the end of the stream (for a hash over all of it)."""
        while self._source(CHUNK):
            pass

    # data of the current member

    def read(self, count: int = -1) -> bytes:
        """Up to count bytes (all: -1) of the current member's data."""
        if self._parts is not None:
            return self._read_sparse(self._parts, count)
        return self._data(self._left if count < 0 else min(count, self._left))

    def _data(self, count: int) -> bytes:
        data = self._take(count)
        if len(data) < count:
            raise ImageError("the archive ends in the middle of a file")
        self._left -= count
        return data

    def _read_sparse(self, parts: list[sparse.Part], count: int) -> bytes:
        found: list[bytes] = []
        end = self._size if count < 0 else min(self._place + count, self._size)
        while self._place < end:
            start, length = parts[-1] if parts else (end, 0)
            hole = min(start, end) - self._place
            if hole > 0:
                found.append(bytes(hole))
                self._place += hole
                continue
            step = min(start + length, end) - self._place
            found.append(self._data(step))
            self._place += step
            if self._place == start + length:
                parts.pop()
        return b"".join(found)

    @property
    def is_sparse(self) -> bool:
        """Whether the current member is a sparse file: it may be far larger than all of the archive."""
        return self._parts is not None

    def copy(self, fd: int) -> None:
        """Write the current member's data to a file descriptor, of a new file where there are holes in it."""
        if self._parts is None:
            self._copy(fd, self._left)
            return
        while self._parts:
            start, length = self._parts.pop()
            os.lseek(fd, start, os.SEEK_SET)
            self._copy(fd, length)
        os.ftruncate(fd, self._size)
        self._place = self._size

    def _copy(self, fd: int, left: int) -> None:
        self._left -= left
        while left:
            at = self._at
            step = min(left, len(self._buffer) - at)
            if step:
                view = memoryview(self._buffer)[at : at + step]
                while view:
                    view = view[os.write(fd, view) :]
                self._at = at + step
                left -= step
            elif not self._fill():
                raise ImageError("the archive ends in the middle of a file")

    # headers

    def _special(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise ImageError(f"the archive has an extended header of {size} bytes; {MAX_HEADER} are allowed")
        data = self._take(size + (-size & 511))
        if len(data) < size:
            raise ImageError("the archive ends in the middle of a header")
        return data[:size]

    def next(self) -> Member | None:
        """The next member; None at the end mark, or where the stream ends between two members."""
        if self._left or self._padding:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
        self._parts = None
        local: dict[str, bytes] = {}
        while True:
            block = self._take(_BLOCK)
            if len(block) < _BLOCK or block == _ZEROS:
                if len(block) % _BLOCK or local:
                    raise ImageError("the archive ends in the middle of a header")
                return None
            if not checksum_matches(block):
                raise ImageError("the archive is damaged, or no tar archive: a header's checksum is wrong")
            kind = block[156:157]
            if kind in _REGULAR or kind in _PLAIN:
                return self._member(block, kind, local)
            size = _number(block[124:136], "the size")
            if kind == b"S":
                return self._member(block, kind, local)
            if kind == b"x":
                local.update(_extended(self._special(size)))
            elif kind == b"g":
                self._global.update(_extended(self._special(size)))
            elif kind == b"L":
                local["path"] = self._special(size).rstrip(b"\0")
            elif kind == b"K":
                local["linkpath"] = self._special(size).rstrip(b"\0")
            elif kind == b"V":
                local.clear()
            else:
                what = _REFUSED.get(kind, f"a member of unknown type {kind!r}")
                raise ImageError(f"the archive holds {what}, which pybuild does not read")

    def _number(self, field: bytes, what: str) -> int:
        # A layer's modes, owners and times are few.
        known = self._known.get(field)
        if known is None:
            known = _number(field, what)
            if len(self._known) < 4096:
                self._known[field] = known
        return known

    def _member(self, block: bytes, kind: bytes, local: dict[str, bytes]) -> Member:
        name = block[:100].partition(b"\0")[0]
        magic = block[257:263]
        if magic == b"ustar\0" and block[345]:
            name = block[345:500].partition(b"\0")[0] + b"/" + name
        target = block[157:257].partition(b"\0")[0] if kind in (b"1", b"2") else b""
        size = self._number(block[124:136], "the size")
        uid = self._number(block[108:116], "the owner")
        gid = self._number(block[116:124], "the group")
        mtime = self._number(block[136:148], "the time") * 1_000_000_000
        xattrs = NO_XATTRS
        records: dict[str, bytes] = {}
        if local or self._global:
            records = {**self._global, **local} if self._global else local
            name = records.get("path") or name
            if kind in (b"1", b"2"):
                target = records.get("linkpath") or target
            if value := records.get("size"):
                size = _decimal(value, "the size")
            if value := records.get("uid"):
                uid = _decimal(value, "the owner")
            if value := records.get("gid"):
                gid = _decimal(value, "the group")
            if value := records.get("mtime"):
                mtime = _time(value)
            xattrs = _xattrs(records)
        stored = size
        if kind == b"S" or (kind in _REGULAR and sparse.is_sparse(records)):
            kind, name = kinds.REGULAR, records.get("GNU.sparse.name") or name
            size, stored = self._map(block, records, size)
        elif kind in _REGULAR:
            # Before there was a type for directories, a last slash told them.
            kind = kinds.DIRECTORY if name.endswith(b"/") else kinds.REGULAR
        if kind != kinds.REGULAR:
            size = stored = 0
        if size < 0 or uid < 0 or gid < 0 or max(uid, gid) > 0xFFFFFFFE or abs(mtime) > 1 << 92:
            raise ImageError(f"the archive has a damaged header for {os.fsdecode(name)!r}")
        if not name or b"\0" in name or b"\0" in target:
            raise ImageError("the archive has a member with an impossible name")
        rdev = 0
        if kind in (kinds.CHARACTER, kinds.BLOCK):
            rdev = _rdev(block)
        self._left = stored
        self._padding = -stored & 511
        return Member(
            os.fsdecode(name.rstrip(b"/") or b"/"), kind, self._number(block[100:108], "the mode") & 0o7777,
            uid, gid, size, mtime, os.fsdecode(target), rdev, xattrs,
        )  # fmt: skip

    def _map(self, block: bytes, records: dict[str, bytes], stored: int) -> tuple[int, int]:
        """Read the map of a sparse file; return (bytes of the file, bytes that the archive holds of it)."""
        if block[156:157] == b"S":
            parts = sparse.of_header(block, self._take, lambda field: _number(field, "a part of a file"))
            size = _number(block[483:495], "the size")
        else:
            parts, size, read = sparse.of_records(records, self._take)
            stored -= read
        self._parts = sparse.checked(parts, size, stored)
        self._place, self._size = 0, size
        return size, stored


def _rdev(block: bytes) -> int:
    major, minor = _number(block[329:337], "a device"), _number(block[337:345], "a device")
    try:
        return os.makedev(major, minor)
    except (OverflowError, ValueError, OSError):
        raise ImageError(f"the archive has an impossible device {major}:{minor}") from None


def _xattrs(records: dict[str, bytes]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for key, value in records.items():
        if key.startswith("SCHILY.xattr."):
            found[key[13:]] = value
    return found
