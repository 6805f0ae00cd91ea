"""Files given in the Dockerfile itself (heredocs of COPY and ADD) as a Tree, held in memory."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence

from buildkit_py.errors import PybuildError
from buildkit_py.snapshot.listing import MADE_TIME_NS
from buildkit_py.snapshot.tree import Entry

_SECONDS = MADE_TIME_NS // 1_000_000_000


class InlineTree:
    """``files``: (name, content, permission bits). No Entry has a ``host``: what reads data asks data()."""

    def __init__(self, files: Sequence[tuple[str, str, int]]) -> None:
        self._data: dict[str, bytes] = {}
        self._modes: dict[str, int] = {}
        for name, content, mode in files:
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise PybuildError(f"a here-document can't be named {name!r}", hint="use a plain word")
            self._data[name] = content.encode("utf-8", "surrogateescape")
            self._modes[name] = stat.S_IFREG | stat.S_IMODE(mode)

    def data(self, path: str) -> bytes:
        return self._data[path]

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        name = self.resolve(path)
        if not name:
            mode = stat.S_IFDIR | 0o755
            return Entry("", _stat(mode, 0), "", mode, 0, 0)
        return self._entry(name) if name in self._data else None

    def resolve(self, path: str) -> str:
        return posixpath.normpath("/" + path).lstrip("/")

    def children(self, path: str) -> list[Entry]:
        return [] if path else [self._entry(name) for name in sorted(self._data, key=os.fsencode)]

    def walk(self, path: str) -> Iterator[Entry]:
        return iter(self.children(path))

    def readlink(self, entry: Entry) -> str:
        raise OSError(f"{entry.path} is no link")

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        return {}

    def _entry(self, name: str) -> Entry:
        mode = self._modes[name]
        return Entry(name, _stat(mode, len(self._data[name])), "", mode, 0, 0)


def _stat(mode: int, size: int) -> os.stat_result:
    times = {"st_atime_ns": MADE_TIME_NS, "st_mtime_ns": MADE_TIME_NS, "st_ctime_ns": MADE_TIME_NS}
    return os.stat_result((mode, 0, 0, 1, 0, 0, size, _SECONDS, _SECONDS, _SECONDS), times)
