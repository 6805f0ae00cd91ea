"""What the snapshots take on disk. Layers are walked once, when somebody asks, never when they are made."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from buildkit_py.database import Database
from buildkit_py.digest import SnapshotID
from buildkit_py.tuples import NamedTuple


class Usage(NamedTuple):
    snapshot: SnapshotID
    parent: SnapshotID | None
    layer: str
    size: int
    """Bytes of the layer on disk, counted for each of the snapshots that share it (``shared``)."""
    files: int
    created: float
    used: float
    shared: int
    children: int


def usages(db: Database, measured: Callable[[str], tuple[int, int]]) -> list[Usage]:
    """Every snapshot, oldest first; ``measured(layer)`` gives (bytes, files)."""
    rows = db.all(
        "SELECT s.id, s.parent, s.layer, s.created, s.used,"
        " (SELECT count(*) FROM snapshots o WHERE o.layer = s.layer),"
        " (SELECT count(*) FROM snapshots c WHERE c.parent = s.id) FROM snapshots s ORDER BY s.created"
    )
    return [
        Usage(id, parent, layer, *measured(layer), created, used, shared, children)
        for id, parent, layer, created, used, shared, children in rows
    ]


def measure(fs: str) -> tuple[int, int]:
    """(bytes on disk, number of files) below a directory; hard links count once. What a step nested so deeply
    that no path names it is left out."""
    size = files = 0
    seen: set[int] = set()
    todo = [fs]
    while todo:
        try:
            listing = os.scandir(todo.pop())
        except OSError:
            continue
        with listing:
            for item in listing:
                files += 1
                try:
                    st = item.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(st.st_mode):
                    todo.append(item.path)
                elif st.st_nlink > 1:
                    if st.st_ino in seen:
                        continue
                    seen.add(st.st_ino)
                size += st.st_blocks * 512
    return size, files
