"""What a copy selected, in columns: small enough for a million files, and read three times (the
signature that tells whether anything changed, the content digest, the copy itself).

An Entry with its stat_result takes 900 bytes; a row here takes about 200.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator

from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Literal

MADE_TIME_NS = 315_619_200_000_000_000
"""1980-01-02: the time of what the builder itself makes. A layer holds no clock, and zip no earlier time."""

_STAT = struct.Struct("<qqqQI")
STAT_SIZE = _STAT.size
_LATEST = (1 << 63) - 1


class Rare(NamedTuple):
    """What most files of a context don't have: an owner other than 0:0, a second link, a device number."""

    uid: int
    gid: int
    rdev: int
    link: tuple[str, int] | None
    """(directory of the layer, inode) where the file has several hard links. Equal files of two layers
    may be one inode; they are no hard links of one another."""


PLAIN = Rare(0, 0, 0, None)


class Stat(NamedTuple):
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int


class Part(NamedTuple):
    """A run of rows that stand for one thing selected.

    ``contents``  what is below a directory; rows go below the destination, which is a directory
    ``file``      one row: the destination itself, or ``prefix`` in it where that is a directory
    ``nested``    rows with a fixed place below the destination (``--parents``)
    """

    kind: Literal["contents", "file", "nested"]
    prefix: str
    """Put before a row's path, once ``skip`` characters of that are dropped."""
    skip: int
    start: int
    end: int


class Listing:
    """Rows of a tree, in the order they were added."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.stats = bytearray()
        self.rare: dict[int, Rare] = {}
        self.started_ns = time.time_ns()
        """When the first file was looked at: what changed later than this may have changed unseen."""
        self._bases: list[str] = []
        self._hosts: dict[int, str] = {}
        self._known: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def extend(self, entries: Iterable[Entry]) -> None:
        paths, stats, bases, rare = self.paths, self.stats, self._bases, self.rare
        pack, known, directory = _STAT.pack, self._known, stat.S_IFDIR
        for path, st, host, mode, uid, gid, rdev in entries:
            base = host[: len(host) - len(path)]
            if not host.endswith(path):
                self._hosts[len(paths)] = host
            base = known.setdefault(base, base)
            bases.append(base)
            if uid or gid or rdev or (st.st_nlink > 1 and mode & 0o170000 != directory):
                link = (base, st.st_ino) if st.st_nlink > 1 and not stat.S_ISDIR(mode) else None
                rare[len(paths)] = Rare(uid, gid, rdev, link)
            paths.append(path)
            try:
                stats += pack(st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, mode)
            except struct.error:
                mtime, ctime = packable(st.st_mtime_ns), packable(st.st_ctime_ns)
                stats += pack(st.st_size, mtime, ctime, st.st_ino, mode)

    def truncate(self, length: int) -> None:
        for i in range(length, len(self.paths)):
            self.rare.pop(i, None)
            self._hosts.pop(i, None)
        del self.paths[length:], self._bases[length:], self.stats[length * STAT_SIZE :]

    def stat(self, row: int) -> Stat:
        return Stat._make(_STAT.unpack_from(self.stats, row * STAT_SIZE))

    def stats_of(self, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
        """(size, mtime_ns, ctime_ns, inode, mode) of a run of rows."""
        view = memoryview(self.stats)[start * STAT_SIZE : end * STAT_SIZE]
        return _STAT.iter_unpack(view)

    def host(self, row: int) -> str:
        return self._hosts.get(row) or self._bases[row] + self.paths[row]

    def entry(self, row: int) -> Entry:
        """The Entry again, for a Tree's methods; its times are those of now."""
        host = self.host(row)
        rare = self.rare.get(row, PLAIN)
        mode = self.stat(row).mode
        return Entry(self.paths[row], os.lstat(host), host, mode, rare.uid, rare.gid, rare.rdev)

    def newest_ctime_ns(self) -> int:
        return max((s[2] for s in _STAT.iter_unpack(self.stats)), default=0)


def packable(ns: int) -> int:
    """A file's time as a row holds it: none later than in the year 2262, as with docker."""
    return max(min(ns, _LATEST), -_LATEST)


def held_data(tree: Tree) -> Callable[[str], bytes] | None:
    """path -> data for a tree that holds its files in memory and has no ``host`` to read."""
    held: Callable[[str], bytes] | None = getattr(tree, "data", None)
    return held


def has_xattrs(where: int | str) -> bool:
    """Whether a file (by descriptor, or by path and then no link is followed) has any; one system call."""
    try:
        return bool(
            os.listxattr(where) if isinstance(where, int) else os.listxattr(where, follow_symlinks=False)
        )
    except OSError as e:
        if e.errno == errno.ENOTSUP:
            return False
        raise
