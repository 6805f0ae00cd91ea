"""One member of a tar archive, as the writer takes it and the reader gives it.

POSIX pax interchange format (IEEE 1003.1, "pax"), ustar blocks with extended headers.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from types import MappingProxyType

from buildkit_py.tuples import NamedTuple

REGULAR = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
CHARACTER = b"3"
BLOCK = b"4"
DIRECTORY = b"5"
FIFO = b"6"
KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}
"""By what stat.S_IFMT() makes of a mode; sockets have none."""

NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})


class Member(NamedTuple):
    path: str
    """As it stands in the archive (a directory's without its last ``/``); names that are not UTF-8 are
    surrogate-escaped. From the reader: hostile, may be absolute or hold ``..``."""
    kind: bytes = REGULAR
    """One of the type flags above."""
    mode: int = 0o644
    """Permission and set-id bits only (07777)."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    """Bytes of data that follow; 0 for everything that is not a regular file."""
    mtime: int = 0
    """Nanoseconds since 1970."""
    target: str = ""
    """Of a symbolic link (as it is) or a hard link (a path in the archive)."""
    rdev: int = 0
    """Device number as os.makedev() makes it."""
    xattrs: Mapping[str, bytes] = NO_XATTRS
