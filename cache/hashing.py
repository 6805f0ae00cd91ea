"""The content digest of a selection: what a copy's cache key holds instead of where its sources lay.

SHA-256 over canonical records of (place below the destination, type and mode, uid, gid, size, device
number, link target or SHA-256 of the data, xattrs), in the order of the selection. No time and no inode
enters it, so it is the same on every machine.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

import xxhash

from buildkit_py.cache.statcache import StatCache
from buildkit_py.digest import Digest
from buildkit_py.errors import PybuildError
from buildkit_py.linux.halves import in_halves
from buildkit_py.snapshot.listing import PLAIN, STAT_SIZE, Listing, Part, has_xattrs, held_data
from buildkit_py.snapshot.tree import Tree
from buildkit_py.tuples import NamedTuple

FIELDS = struct.Struct("<IIIQQI")
"""Of a file in what is hashed: mode, uid, gid, size, device number, length of what follows."""
VERSION = b"pybuild content 1\0"
"""What is hashed first."""
_RACY_NS = 20_000_000
"""A file changed again within one tick of the kernel's clock (at most 10 ms) looks unchanged."""
_COARSE_NS = 2_000_000_000
"""The same where a file system keeps whole seconds alone (ext4 with small inodes, old NFS servers)."""
_SMALL = 65536
_BATCH = 512
_MANY = 4000
_MUCH = 128 << 20
"""Files or bytes to be read from which on a second process pays."""
_FILE_BYTES = 8_000
"""What takes as long to hash as a file takes to open."""


class Preimage(NamedTuple):
    """What a content digest was taken of."""

    data: Callable[[], bytes]
    """Gives the very bytes. Raises PybuildError where a file can't be read again."""
    parts: Sequence[Part] = ()
    listing: Listing | None = None

    def roots(self) -> list[tuple[int, str]]:
        """For each part how many characters of a file's place are replaced, and by what, to have its path in
        the source; empty for very many parts."""
        if self.listing is None or len(self.parts) > _MANY:
            return []
        paths = self.listing.paths
        return [(len(p.prefix), paths[p.start][: p.skip] if p.end > p.start else "") for p in self.parts]


def content_digest(
    parts: Sequence[Part],
    listing: Listing,
    tree: Tree,
    statcache: StatCache | None = None,
    *,
    owners: bool = False,
    chmod: Callable[[int], int] | None = None,
    variant: str = "",
    hashed: list[bytes] | None = None,
) -> Digest:
    """Of what a copy of these parts would make.

    ``hashed`` gets what was hashed, in pieces, and nothing where the stat cache knew the digest.
    ``owners``: the files' own ids count (else 0:0, or what a --chown names, which stands in the op).
    ``chmod`` replaces modes before they are hashed, ``variant`` names that change for the memo.
    Raises PybuildError where a file can't be read.
    """
    if statcache is None:
        return _digest(_bytes(parts, listing, owners, chmod, _Finder(listing, tree, {})), hashed)
    signature = _signature(parts, listing, f"{owners}\0{variant}")
    known = statcache.recall(signature)
    if known is not None:
        return known
    finder = _Finder(listing, tree, statcache.table())
    digest = _digest(_bytes(parts, listing, owners, chmod, finder), hashed)
    if finder.fresh:
        statcache.learn(finder.fresh, set(listing.paths))
    if settled(listing.newest_ctime_ns(), listing.started_ns):
        statcache.remember(signature, digest)
    return digest


def content_bytes(
    parts: Sequence[Part],
    listing: Listing,
    tree: Tree,
    statcache: StatCache | None = None,
    *,
    owners: bool = False,
    chmod: Callable[[int], int] | None = None,
) -> bytes:
    """What content_digest() hashes. Raises PybuildError where a file can't be read."""
    finder = _Finder(listing, tree, {} if statcache is None else statcache.table())
    return b"".join(_bytes(parts, listing, owners, chmod, finder))


def settled(ctime_ns: int, looked_ns: int) -> bool:
    """Whether a file, by its ctime, can't have changed any more since it was looked at without its ctime
    showing that."""
    tick = _RACY_NS if ctime_ns % 1_000_000_000 else _COARSE_NS
    return ctime_ns < looked_ns - tick


def _signature(parts: Sequence[Part], listing: Listing, variant: str) -> bytes:
    """Of everything that stat told; equal signatures mean equal content."""
    h = xxhash.xxh3_128(listing.stats)
    h.update("\0".join(listing.paths).encode("utf-8", "surrogateescape"))
    rare = [(i, r[:3]) for i, r in listing.rare.items() if r[:3] != (0, 0, 0)]
    text = repr((variant, [tuple(p) for p in parts], rare))
    h.update(text.encode("utf-8", "surrogateescape"))
    return h.digest()


def _digest(pieces: Iterable[bytes], hashed: list[bytes] | None) -> Digest:
    from hashlib import sha256  # here, for it loads OpenSSL, and a known selection hashes nothing

    h = sha256()
    for piece in pieces:
        h.update(piece)
        if hashed is not None:
            hashed.append(piece)
    return Digest("sha256:" + h.hexdigest())


def _bytes(
    parts: Sequence[Part],
    listing: Listing,
    owners: bool,
    chmod: Callable[[int], int] | None,
    finder: _Finder,
) -> Iterator[bytes]:
    """What is hashed, in pieces: the version, then of each part its kind, its records and a NUL."""
    finder.read_early()
    yield VERSION
    for part in parts:
        yield part.kind.encode() + b"\0"
        batch: list[bytes] = []
        for record in _records(part, listing, owners, chmod, finder):
            batch.append(record)
            if len(batch) == _BATCH:
                yield b"".join(batch)
                batch.clear()
        yield b"".join(batch)
        yield b"\0"


def _records(
    part: Part, listing: Listing, owners: bool, chmod: Callable[[int], int] | None, finder: _Finder
) -> Iterator[bytes]:
    pack, rare_rows, paths = FIELDS.pack, listing.rare, listing.paths
    prefix, skip = part.prefix, part.skip
    for row, (size, _, ctime_ns, _, mode) in enumerate(listing.stats_of(part.start, part.end), part.start):
        path = paths[row]
        found = finder.find(row, path, mode, size, ctime_ns)
        uid, gid, rdev, _ = rare_rows.get(row, PLAIN)
        kind = mode & 0o170000
        if kind != stat.S_IFREG:
            size = 0
            if kind == stat.S_IFSOCK:
                mode = mode ^ stat.S_IFSOCK | stat.S_IFREG
        if kind == stat.S_IFLNK:
            mode = 0o120777
        elif chmod is not None:
            mode = chmod(mode)
        if kind not in (stat.S_IFCHR, stat.S_IFBLK):
            rdev = 0
        if not owners:
            uid = gid = 0
        name = (prefix + path[skip:]).encode("utf-8", "surrogateescape")
        yield b"%b\0%b%b" % (name, pack(mode, uid, gid, size, rdev, len(found)), found)


class _Finder:
    """What stat doesn't tell: data, link targets, xattrs; from the stat cache where that knows them."""

    def __init__(self, listing: Listing, tree: Tree, table: dict[str, bytes]) -> None:
        self.fresh: dict[str, bytes] = {}
        self._listing = listing
        self._tree = tree
        self._table = table
        self._held = held_data(tree)
        self._early: dict[int, tuple[bytes, bool]] = {}

    def read_early(self) -> None:
        """Where much has to be read, read it by two processes before the records are made."""
        if self._held is not None:
            return
        listing, table = self._listing, self._table
        rows: list[tuple[int, int]] = []
        total = 0
        for row, (size, _, _, _, mode) in enumerate(listing.stats_of(0, len(listing))):
            if mode & 0o170000 == stat.S_IFREG:
                known = table.get(listing.paths[row])
                if (
                    known is None
                    or known[:STAT_SIZE] != listing.stats[row * STAT_SIZE : (row + 1) * STAT_SIZE]
                ):
                    rows.append((row, size))
                    total += size
        if len(rows) >= _MANY or (total >= _MUCH and len(rows) > 1):
            for found in in_halves(self._read_rows, *_split(rows)):
                self._early.update(found)

    def _read_rows(self, rows: list[int]) -> dict[int, tuple[bytes, bool]]:
        found = {}
        for row in rows:
            try:
                found[row] = read_digest(self._listing.host(row))
            except OSError:
                pass  # the record's turn comes, and with it the error
        return found

    def find(self, row: int, path: str, mode: int, size: int, ctime_ns: int) -> bytes:
        stats = self._listing.stats[row * STAT_SIZE : (row + 1) * STAT_SIZE]
        known = self._table.get(path)
        if known is not None and known[:STAT_SIZE] == stats:
            return known[STAT_SIZE:]
        try:
            found = self._read(row, mode, size)
        except OSError as e:
            raise unreadable(path, e) from e
        if settled(ctime_ns, self._listing.started_ns):
            self.fresh[path] = bytes(stats) + found
        return found

    def _read(self, row: int, mode: int, size: int) -> bytes:
        from hashlib import sha256

        kind = mode & 0o170000
        if kind == stat.S_IFREG:
            if self._held is not None:
                return sha256(self._held(self._listing.paths[row])).digest()
            data, marked = (
                self._early.pop(row) if row in self._early else read_digest(self._listing.host(row), size)
            )
            return data + self._xattrs(row) if marked else data
        if kind == stat.S_IFSOCK:
            return sha256().digest()
        target = b""
        if kind == stat.S_IFLNK:
            target = os.fsencode(self._tree.readlink(self._listing.entry(row)))
        return target + self._xattrs(row)

    def _xattrs(self, row: int) -> bytes:
        """Empty for none, else NUL, then name and value with their lengths: a link's target, which
        stands before it, has no NUL."""
        out = b""
        for name, value in sorted(self._tree.xattrs(self._listing.entry(row)).items()):
            key = os.fsencode(name)
            out += struct.pack("<II", len(key), len(value)) + key + value
        return b"\0" + out if out else b""


def _split(rows: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """(row, size) -> rows in two shares that take about as long."""
    shares: tuple[list[int], list[int]] = ([], [])
    costs = [0, 0]
    for row, size in rows:
        lighter = costs[1] < costs[0]
        shares[lighter].append(row)
        costs[lighter] += size + _FILE_BYTES
    return shares


def read_digest(host: str, size: int = 0) -> tuple[bytes, bool]:
    """(SHA-256 of a regular file's data, whether it has any xattr). ``size`` as stat told. Raises OSError."""
    from hashlib import sha256

    fd = os.open(host, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = os.read(fd, _SMALL)
        h = sha256(data)
        if len(data) == _SMALL or len(data) < size:
            buffer = memoryview(bytearray(1 << 20))
            while n := os.readv(fd, [buffer]):
                h.update(buffer[:n])
        return h.digest(), has_xattrs(fd)
    finally:
        os.close(fd)


def unreadable(path: str, e: OSError) -> PybuildError:
    if e.errno in (errno.EACCES, errno.EPERM):
        hint = "change its mode, or keep it out of the build context with .dockerignore"
    elif e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        hint = "it changed while it was read; build again"
    else:
        hint = ""
    return PybuildError(f"cannot read {path or '.'}: {e.strerror}", hint=hint)
