"""One fetched file as a Tree: what ADD of a URL copies from. Its data lie in the content store."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator

from buildkit_py.snapshot.tree import Entry


class FileTree:
    """``host``: where the data lie; ``name``: the file's name in the tree; ``mtime``: seconds."""

    def __init__(self, host: str, name: str, mtime: int, mode: int = 0o600) -> None:
        st = os.lstat(host)
        self._root = _entry("", host, st, stat.S_IFDIR | 0o755, mtime)
        self._file = _entry(name, host, st, stat.S_IFREG | mode, mtime)

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        found = self.resolve(path)
        return self._root if not found else self._file if found == self._file.path else None

    def resolve(self, path: str) -> str:
        return posixpath.normpath("/" + path).lstrip("/")

    def children(self, path: str) -> list[Entry]:
        return [] if path else [self._file]

    def walk(self, path: str) -> Iterator[Entry]:
        return iter(self.children(path))

    def readlink(self, entry: Entry) -> str:
        raise OSError(f"{entry.path} is no link")

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        return {}


def _entry(path: str, host: str, st: os.stat_result, mode: int, mtime: int) -> Entry:
    ns = mtime * 1_000_000_000
    times = {"st_atime_ns": ns, "st_mtime_ns": ns, "st_ctime_ns": st.st_ctime_ns}
    size = st.st_size if stat.S_ISREG(mode) else 0
    made = os.stat_result((mode, st.st_ino, st.st_dev, 1, 0, 0, size, mtime, mtime, int(st.st_ctime)), times)
    return Entry(path, made, host, mode, 0, 0)
