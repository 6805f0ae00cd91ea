"""A tree: a directory hierarchy that can be looked up and walked, wherever its files really lie.

A build context (one directory), a stage (a stack of layer directories) and a heredoc are read through
the same Protocol, so COPY, content hashing and name lookups in /etc/passwd are written once.

Every path is relative to the tree's root, ``/``-separated, without leading ``/``; the root is ``""``.
Symbolic links are resolved inside the root and never escape it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Protocol


class Entry(NamedTuple):
    path: str
    stat: os.stat_result
    """lstat of the file itself: type, size, times, inode, device."""
    host: str
    """Where the file lies; readable with os.open(host, O_NOFOLLOW)."""
    mode: int
    """st_mode with type bits, as the image is to have it (recorded owners applied)."""
    uid: int
    gid: int
    rdev: int = 0

    @property
    def link(self) -> tuple[str, int] | None:
        """What all names of a file with several hard links have in common; None for another file.

        Equal files of two layers may be one inode; they are no hard links of one another.
        """
        if self.stat.st_nlink == 1 or stat.S_ISDIR(self.mode):
            return None
        layer = self.host[: len(self.host) - len(self.path)] if self.host.endswith(self.path) else ""
        return layer, self.stat.st_ino


class Tree(Protocol):
    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        """The entry at path; intermediate links are always resolved inside the root, the last one
        if ``follow``. The entry's own ``path`` is the resolved one. None where nothing is there."""
        ...

    def resolve(self, path: str) -> str:
        """Resolve every link of path inside the root; components that don't exist are kept as
        they are. Raises OSError(ELOOP) after 40 links."""
        ...

    def children(self, path: str) -> list[Entry]:
        """The entries of a directory (no link is followed), sorted by the bytes of their names."""
        ...

    def walk(self, path: str) -> Iterator[Entry]:
        """The entries below a directory, parents before children, each directory's sorted as in
        children(); the directory itself is not included."""
        ...

    def readlink(self, entry: Entry) -> str: ...

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        """What belongs to the image: without overlayfs' own and OWNER_XATTR."""
        ...
