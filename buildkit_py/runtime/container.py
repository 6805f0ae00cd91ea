"""The containers of a store: a directory and a row each.

    containers/<id>/fs, work    what the container wrote, in overlay form over its image's layers
    containers/<id>/hosts …     nothing else: files given to the container live in memory

A row is written before the process starts and holds the process that runs it (pid and start time), so a row
whose process is gone is known to have died with it. ``--rm`` removes directory and row; after a kill -9 the
next prune does.
"""

from __future__ import annotations

import os
import time

from buildkit_py.database import Database
from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.tuples import NamedTuple

_DDL = """
CREATE TABLE IF NOT EXISTS containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL, ref TEXT NOT NULL,
    snapshot TEXT, command TEXT NOT NULL, created REAL NOT NULL, pid INTEGER NOT NULL,
    started TEXT NOT NULL, status INTEGER, remove INTEGER NOT NULL
)
"""

_LEFT = (
    "amber",
    "brisk",
    "calm",
    "deft",
    "eager",
    "fleet",
    "glad",
    "hardy",
    "keen",
    "lucid",
    "merry",
    "nimble",
)
_RIGHT = (
    "anvil",
    "beacon",
    "cedar",
    "delta",
    "ember",
    "falcon",
    "harbor",
    "lantern",
    "maple",
    "otter",
    "quartz",
)


class Container(NamedTuple):
    """``status`` is the exit status, None while it runs; ``started`` identifies the running process
    together with ``pid`` (field 22 of /proc/pid/stat)."""

    id: str
    name: str
    image: Digest
    ref: str
    snapshot: SnapshotID | None
    command: str
    created: float
    pid: int
    started: str
    status: int | None
    remove: bool

    def alive(self) -> bool:
        return self.status is None and start_time(self.pid) == self.started


class ContainerStore:
    def __init__(self, root: str, db: Database) -> None:
        self._dir = os.path.join(root, "containers")
        self._db = db
        db.ensure(_DDL)

    def create(
        self, *, name: str, image: Digest, ref: str, snapshot: SnapshotID | None, command: str, remove: bool
    ) -> Container:
        """A new container, counted as run by this process. Raises PybuildError where the name is taken."""
        number = os.urandom(32)
        container = Container(
            id=number.hex(),
            name=name
            or f"{_LEFT[number[0] % len(_LEFT)]}_{_RIGHT[number[1] % len(_RIGHT)]}_{number[:2].hex()}",
            image=image,
            ref=ref,
            snapshot=snapshot,
            command=command,
            created=time.time(),
            pid=os.getpid(),
            started=start_time(os.getpid()),
            status=None,
            remove=remove,
        )
        if name and self._db.one("SELECT 1 FROM containers WHERE name = ?", (name,)):
            raise PybuildError(
                f"the container name {name!r} is in use", hint="choose another --name, or run pybuild prune"
            )
        self._db.run("INSERT INTO containers VALUES (?,?,?,?,?,?,?,?,?,?,?)", container)
        for part in ("fs", "work"):
            os.makedirs(os.path.join(self._dir, container.id, part), mode=0o755)
        os.chmod(self.path(container), 0o700)
        return container

    def path(self, container: Container, part: str = "") -> str:
        return os.path.join(self._dir, container.id, part) if part else os.path.join(self._dir, container.id)

    def ended(self, container: Container, status: int) -> None:
        self._db.run("UPDATE containers SET status = ? WHERE id = ?", (status, container.id))

    def remove(self, container: Container) -> None:
        remove_tree(self.path(container))
        self._db.run("DELETE FROM containers WHERE id = ?", (container.id,))

    def get(self, name: str) -> Container:
        """By name, id or a unique beginning of the id. Raises NotFoundError."""
        found = [c for c in self.list() if c.name == name or (len(name) >= 3 and c.id.startswith(name))]
        if len(found) != 1:
            raise NotFoundError(
                f"no such container: {name}" if not found else f"{name} fits several containers"
            )
        return found[0]

    def list(self) -> list[Container]:
        """All of them, the newest first."""
        rows = self._db.all("SELECT * FROM containers ORDER BY created DESC")
        return [Container._make((*row[:-1], bool(row[-1]))) for row in rows]


def start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); "" where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rsplit(b")", 1)[1].split()[19].decode()
    except OSError:
        return ""
