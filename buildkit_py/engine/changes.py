"""``diff`` and ``export``: what a container's files are, and how they differ from its image's."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator

from buildkit_py.engine import containers
from buildkit_py.engine.create import root_tree
from buildkit_py.runtime.container import Container
from buildkit_py.snapshot import overlay
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.typed import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine

_PATIENCE = 1000
"""Milliseconds."""
_CHUNK = 1 << 20


def diff(engine: Engine, container: Container) -> Iterator[tuple[str, str]]:
    """(A added, C changed or D deleted; path), sorted by path."""
    engine.enter()
    config = container.config()
    lower = engine.snapshots.tree(config.snapshot)
    with containers.paused(container):
        if engine.overlay:
            found = sorted(_changes(container.part("fs"), "", lower), key=lambda change: change[1])
        else:
            found = sorted(_differences(root_tree(engine, container, config), lower), key=lambda c: c[1])
    return iter(found)


def _changes(upper: str, top: str, lower: Tree) -> Iterator[tuple[str, str]]:
    """Below a directory of an upper layer in overlay form; of any depth."""
    todo = [top]
    while todo:
        path = todo.pop()
        place = f"{upper}/{path}" if path else upper
        opaque = overlay.opaqueness(place)
        names = set()
        with os.scandir(place) as listing:
            items = [(item.name, item.stat(follow_symlinks=False)) for item in listing]
        for name, st in items:
            names.add(name)
            inside = f"{path}/{name}" if path else name
            below = lower.lookup(inside, follow=False)
            if overlay.is_whiteout(st) or (
                opaque == b"x" and overlay.is_whiteout_file(f"{place}/{name}", st)
            ):
                if below is not None:
                    yield "D", "/" + inside
                continue
            yield ("A" if below is None else "C"), "/" + inside
            if stat.S_ISDIR(st.st_mode):
                todo.append(inside)
            elif below is not None and stat.S_ISDIR(below.mode):
                yield from (("D", "/" + entry.path) for entry in lower.walk(inside))
        if opaque == b"y":
            hidden = lower.lookup(path, follow=False)
            if hidden is not None and stat.S_ISDIR(hidden.mode):
                yield from (
                    ("D", "/" + e.path) for e in lower.children(path) if os.path.basename(e.path) not in names
                )


def _differences(upper: Tree, lower: Tree) -> Iterator[tuple[str, str]]:
    """Of two whole trees."""
    before = {entry.path: entry for entry in lower.walk("")}
    for entry in upper.walk(""):
        old = before.pop(entry.path, None)
        if old is None:
            yield "A", "/" + entry.path
        elif _traits(old) != _traits(entry):
            yield "C", "/" + entry.path
    yield from (("D", "/" + path) for path in before)


def _traits(entry: Entry) -> tuple[object, ...]:
    size = entry.stat.st_size if stat.S_ISREG(entry.mode) else 0
    return entry.mode, entry.uid, entry.gid, entry.rdev, size, entry.stat.st_mtime_ns


def export(engine: Engine, container: Container, fd: int) -> None:
    """Write the container's files, without those of its mounts, as a tar."""
    from buildkit_py.archive.tar import TarWriter
    from buildkit_py.exporter.tar import write_tree

    engine.enter()
    outlet = _Outlet(fd, engine.root if container.alive() else "")
    writer = TarWriter(outlet.write)
    try:
        with containers.paused(container):
            write_tree(root_tree(engine, container, container.config()), writer)
            writer.close()
        outlet.finish()
    finally:
        outlet.close()


class _Outlet:
    """Writes to a descriptor. Its reader may be in the paused container: what is not taken for a while goes
    to a file without a name in ``folder`` ("": never), and from there to the reader once all has been read.
    """

    def __init__(self, fd: int, folder: str) -> None:
        self._fd = fd
        self._folder = folder if not stat.S_ISREG(os.fstat(fd).st_mode) else ""
        self._kept: IO[bytes] | None = None
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._folder and self._kept is None and not self._poll.poll(_PATIENCE):
                import tempfile

                self._kept = tempfile.TemporaryFile(dir=self._folder)
            if self._kept is not None:
                self._kept.write(view)
                return
            # More than a pipe takes for certain could block.
            view = view[os.write(self._fd, view[: select.PIPE_BUF] if self._folder else view) :]

    def finish(self) -> None:
        kept, self._kept, self._folder = self._kept, None, ""
        if kept is not None:
            with kept:
                kept.seek(0)
                while data := kept.read(_CHUNK):
                    self.write(data)

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
