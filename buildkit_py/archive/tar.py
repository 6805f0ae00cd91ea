"""A deterministic tar writer: same members in, same bytes out, on any machine.

ustar blocks (IEEE 1003.1 pax) without user and group names; whatever they can't hold (sub-second times,
long or non-ASCII names, big numbers, xattrs) goes to a pax extended header. Written by hand because
tarfile needs 20 to 100 µs a member, this 5.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from zlib import adler32

from buildkit_py.archive.member import BLOCK, CHARACTER, DIRECTORY, REGULAR, Member
from buildkit_py.errors import StoreError

EMPTY = bytes(1024)
"""An archive without members."""

_FLUSH = 1 << 20
_MAX_8 = 0o7777777
_MAX_12 = 0o77777777777
_ZEROS = bytes(512)
_NO_LINK = bytes(100)
_NO_DEVICE = b"0000000\x000000000\x00"
_MAGIC = b"ustar\x0000" + bytes(64)
_TAIL = _MAGIC + _NO_DEVICE + bytes(167)
_TAIL_SUM = sum(_TAIL)
_SPACES = 8 * 0x20


def _sum(part: bytes) -> int:
    # adler32's low half is 1 + the sum of the bytes modulo 65521, which 256 bytes can't reach: a sum in C.
    return (adler32(part) & 0xFFFF) - 1


def _record(key: bytes, value: bytes) -> bytes:
    """``<length> <key>=<value>\\n`` where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _time(ns: int) -> bytes:
    seconds, fraction = divmod(abs(ns), 1_000_000_000)
    sign = b"-" if ns < 0 else b""
    if not fraction:
        return b"%b%d" % (sign, seconds)
    return (b"%b%d.%09d" % (sign, seconds, fraction)).rstrip(b"0")


def _pad(size: int) -> bytes:
    return _ZEROS[: -size & 511]


_extended_blocks: dict[int, bytes] = {}


def _extended(records: Iterable[bytes]) -> bytes:
    body = b"".join(records)
    block = _extended_blocks.get(len(body))
    if block is None:
        block = _block(b"././@PaxHeader", 0o644, 0, 0, len(body), 0, b"x")
        if len(_extended_blocks) < 1024:
            _extended_blocks[len(body)] = block
    return block + body + _pad(len(body))


def _block(
    name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes,
    link: bytes = b"", device: bytes = _NO_DEVICE, prefix: bytes = b"",
) -> bytes:  # fmt: skip
    front = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    if link or prefix or device is not _NO_DEVICE:
        link = link.ljust(100, b"\0")
        tail = _MAGIC + device + prefix.ljust(167, b"\0")
        total = _sum(front) + _sum(link) + sum(tail) + _SPACES + kind[0]
    else:
        link = _NO_LINK
        tail = _TAIL
        total = _sum(front) + _TAIL_SUM + _SPACES + kind[0]
    return b"%b%06o\0 %b%b%b" % (front, total, kind, link, tail)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """(prefix, name) of a path of up to 256 bytes, where a slash stands in the right place."""
    at = name.rfind(b"/", 0, min(156, len(name) - 1))
    if at < 1 or len(name) - at - 1 > 100:
        return None
    return name[:at], name[at + 1 :]


def encode(member: Member) -> bytes:
    """The header blocks of a member: a multiple of 512 bytes."""
    path, kind, mode, uid, gid, size, mtime, target, rdev, xattrs = member
    records: list[bytes] = []
    name = os.fsencode(path)
    if kind == DIRECTORY:
        name += b"/"
    prefix = b""
    if len(name) > 100 or not name.isascii():
        parts = _split(name) if name.isascii() else None
        if parts is None:
            records.append(_record(b"path", name))
            name = name[:100]
        else:
            prefix, name = parts
    link = b""
    if target:
        link = os.fsencode(target)
        if len(link) > 100 or not link.isascii():
            records.append(_record(b"linkpath", link))
            link = link[:100]
    if size > _MAX_12:
        records.append(_record(b"size", b"%d" % size))
        size = 0
    if uid > _MAX_8:
        records.append(_record(b"uid", b"%d" % uid))
        uid = 0
    if gid > _MAX_8:
        records.append(_record(b"gid", b"%d" % gid))
        gid = 0
    seconds, fraction = divmod(mtime, 1_000_000_000)
    if fraction or not 0 <= seconds <= _MAX_12:
        records.append(_record(b"mtime", _time(mtime)))
        seconds = seconds if 0 <= seconds <= _MAX_12 else 0
    device = _NO_DEVICE
    if rdev and kind in (CHARACTER, BLOCK):
        device = _device(rdev)
    if xattrs:
        records += [_record(b"SCHILY.xattr." + os.fsencode(key), xattrs[key]) for key in sorted(xattrs)]
    block = _block(name, mode & 0o7777, uid, gid, size, seconds, kind, link, device, prefix)
    return _extended(records) + block if records else block


def _device(rdev: int) -> bytes:
    major, minor = os.major(rdev), os.minor(rdev)
    if major > _MAX_8 or minor > _MAX_8:
        # A number in base 256 (a GNU extension) is what every reader takes; pax has no portable record.
        return b"".join(b"\x80" + number.to_bytes(7, "big") for number in (major, minor))
    return b"%07o\0%07o\0" % (major, minor)


class TarWriter:
    """Writes members to a callable, in pieces of about 1 MiB (so that a hash over them frees the GIL).

    The pieces are never reused: a consumer in another thread may keep them.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._parts: list[bytes] = []
        self._pending = 0

    def _put(self, part: bytes) -> None:
        self._parts.append(part)
        self._pending += len(part)
        if self._pending >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            self._write(b"".join(self._parts) if len(self._parts) > 1 else self._parts[0])
            self._parts = []
            self._pending = 0

    def add(self, member: Member) -> None:
        """A member without data. Raises ValueError where it announces some."""
        if member.size:
            raise ValueError(f"{member.path}: a member of {member.size} bytes was added without data")
        self._put(encode(member))

    def add_bytes(self, member: Member, data: bytes) -> None:
        """A regular file from memory; its size is taken from data."""
        self._put(encode(member._replace(kind=REGULAR, size=len(data))))
        self._put(data + _pad(len(data)))

    def add_file(self, member: Member, fd: int) -> None:
        """A regular file of ``member.size`` bytes, read from fd to its end.

        Raises StoreError where the file is shorter or longer than that (it changed while it was read).
        """
        size = member.size
        self._put(encode(member))
        if size < _FLUSH:
            data = os.read(fd, size + 1)
            while 0 < len(data) < size and (more := os.read(fd, size + 1 - len(data))):
                data += more
            if len(data) != size:
                raise _changed(member)
            self._put(data)
        else:
            self._flush()
            left = size
            while left and (data := os.read(fd, min(left, _FLUSH))):
                left -= len(data)
                self._write(data)
            if left or os.read(fd, 1):
                raise _changed(member)
        if size & 511:
            self._put(_pad(size))

    def close(self) -> None:
        """The end mark: two blocks of zeros, no further padding."""
        self._put(EMPTY)
        self._flush()


def _changed(member: Member) -> StoreError:
    return StoreError(
        f"{member.path} changed while it was read", hint="let nothing write there and try again"
    )
