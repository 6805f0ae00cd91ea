"""The containers of a store: a directory each, and a row by which its name is known.

    containers/<id>/config.json   what it was made of (buildkit_py.runtime.config)
    containers/<id>/state.json    what it is doing (buildkit_py.runtime.state)
    containers/<id>/lock          locked by its supervisor for as long as that lives
    containers/<id>/socket        where the supervisor answers (buildkit_py.runtime.control)
    containers/<id>/log           what it wrote (buildkit_py.runtime.log)
    containers/<id>/fs, work      what it changed, in overlay form over its image's layers
    containers/<id>/owners        recorded owners of links, where one id is mapped
    containers/.trash/            renamed here first, deleted later

The directory is the truth. The row keeps names unique and says which snapshot is in use; ``list`` mends it
where a crash, or a supervisor that removed its container, left the two different. Both are changed in one
transaction of the index.

A container is run, or removed, by who holds its lock. One that says it runs while nobody has the lock has
died with its supervisor, by a kill or with the machine; whoever sees it first says so in its state.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.errors import NotFoundError, PybuildError, StoreError
from buildkit_py.linux import locks
from buildkit_py.runtime import config as configs
from buildkit_py.runtime import control
from buildkit_py.runtime import state as states
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.state import State
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.database import Database

_DDL = """
CREATE TABLE IF NOT EXISTS container_names (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL, snapshot TEXT, created REAL NOT NULL
)
"""

LOST = 137
"""The exit status of a container whose supervisor was killed: so was its first process."""

_TRIES, _PAUSE = 1000, 0.002
"""How often, and after how many seconds, to try a lock again that is held for moments only."""

_LEFT = ("amber", "brisk", "calm", "deft", "eager", "fleet", "glad", "hardy", "keen", "lucid", "merry")
_RIGHT = ("anvil", "beacon", "cedar", "delta", "ember", "falcon", "harbor", "lantern", "maple", "otter")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Container(NamedTuple):
    id: str
    name: str
    image: Digest
    snapshot: SnapshotID | None
    created: float
    path: str
    """Its directory."""

    def part(self, name: str) -> str:
        return f"{self.path}/{name}"

    def alive(self) -> bool:
        """Whether a supervisor has it (or somebody removes it)."""
        return locks.held(self.part("lock"))

    def config(self) -> Config:
        return configs.read(self.path)

    def state(self) -> State:
        """What it is doing, seen without any privilege. Raises nothing."""
        state = states.read(self.path)
        if not state.live or self.alive():
            return state
        # It may have ended between the two looks.
        state = states.read(self.path)
        return lost(self.path, state) if state.live else state


_SIGNS = ("state.json", "log")
"""Files that a supervisor writes as long as it lives."""


def lost(directory: str, state: State) -> State:
    """The state of a container whose supervisor is gone without a word. It ended no earlier than it was heard
    of last; nobody knows more."""
    return state._replace(
        status="exited",
        pid=0,
        exit_code=LOST,
        finished=max(state.started, *(_changed(os.path.join(directory, name)) for name in _SIGNS)),
        error="its supervisor was killed, or the machine was restarted",
        health="unhealthy" if state.health else "",
    )


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


Containers = list[Container]
"""ContainerStore.list hides the type's name."""


class RunningError(PybuildError):
    """What can't be done to a container that runs."""


class ContainerStore:
    def __init__(self, root: str, db: Database) -> None:
        self._dir = os.path.join(root, "containers")
        self._trash = os.path.join(self._dir, ".trash")
        self._db = db
        db.ensure(_DDL)

    @classmethod
    @contextmanager
    def opened(cls, root: str) -> Iterator[ContainerStore]:
        """Before a fork, when SQLite must not be open: its file is opened for this alone."""
        from buildkit_py.database import Database

        db = Database(os.path.join(root, "index.db"))
        try:
            yield cls(root, db)
        finally:
            db.close()

    def new_id(self) -> str:
        return os.urandom(32).hex()

    def create(self, config: Config) -> Container:
        """A new container of a config, whose name may be "". Raises PybuildError where it is taken."""
        if config.name:
            check_name(config.name)
        else:
            config = config._replace(name=_made_up(config.id))
        container = self._container(config)
        staged = os.path.join(self._dir, f".new-{config.id}")
        try:
            # There in time for removals from a full disk.
            os.makedirs(self._trash, 0o700, exist_ok=True)
            for part in ("fs", "work"):
                os.makedirs(os.path.join(staged, part), mode=0o755)
            os.chmod(staged, 0o700)
            os.close(locks.open_lock(f"{staged}/lock"))
            configs.write(staged, config)
            with self._db.transaction():
                if self._taken(config.name):
                    self._mend()
                    self._refuse_taken(config.name)
                self._insert(container)
                os.rename(staged, container.path)
        except BaseException:
            remove_tree(staged)
            raise
        return container

    def rename(self, container: Container, name: str) -> Container:
        check_name(name)
        with self._db.transaction():
            self._mend()
            self._refuse_taken(name)
            if not self._db.run("UPDATE container_names SET name = ? WHERE id = ?", (name, container.id)):
                raise NotFoundError(f"no such container: {container.name}")
            configs.write(container.path, configs.read(container.path)._replace(name=name))
        return container._replace(name=name)

    @contextmanager
    def locked(self, container: Container) -> Iterator[None]:
        """Hold the container's lock: it neither runs nor is it removed meanwhile. Raises RunningError where
        it runs, NotFoundError where it is gone."""
        fd = lock(container.path)
        if fd < 0:
            raise RunningError(
                f"the container {container.name} is running", hint=f"`pybuild stop {container.name}` first"
            )
        try:
            yield
        finally:
            os.close(fd)

    def remove(self, container: Container) -> None:
        """Raises RunningError where it runs, NotFoundError where it is gone already."""
        with self.locked(container):
            trash = discard(container.path)
        # On a full disk this makes the room that the index needs.
        remove_tree(trash)
        self.forget(container)

    def forget(self, container: Container) -> None:
        """Drop the row of a container whose directory is gone. On a full disk it stays: ``list`` mends it."""
        with suppress(StoreError):
            self._db.run("DELETE FROM container_names WHERE id = ?", (container.id,))

    def get(self, name: str) -> Container:
        """By name, id or a unique beginning of the id. Raises NotFoundError."""
        found = self.find(name)
        if found is None:
            raise NotFoundError(f"no such container: {name}", hint="`pybuild ps -a` lists what is here")
        return found

    def find(self, name: str) -> Container | None:
        # As inspect shows it, and docker takes it.
        name = name.removeprefix("/")
        containers = self.list()
        exact = [c for c in containers if name in (c.name, c.id)]
        found = exact or [c for c in containers if len(name) >= 1 and c.id.startswith(name)]
        if len(found) > 1:
            raise NotFoundError(f"{name} is the beginning of several containers' ids")
        return found[0] if found else None

    def list(self) -> Containers:
        """All of them, the newest first."""
        rows = self._rows()
        if {row[0] for row in rows} != self._directories():
            with suppress(StoreError), self._db.transaction():
                self._mend()
            # A full disk: those whose directory is gone are left out, and stay to be mended.
            there = self._directories()
            rows = tuple(row for row in self._rows() if row[0] in there)
        return [Container(*row, f"{self._dir}/{row[0]}") for row in rows]

    def collect_trash(self) -> int:
        """Delete what removals and crashes left; return the bytes freed."""
        freed = 0
        for folder, prefix in ((self._trash, ""), (self._dir, ".new-")):
            for name in _listing(folder):
                if name.startswith(prefix):
                    freed += remove_tree(os.path.join(folder, name))
        return freed

    # Rows and directories

    def _container(self, config: Config) -> Container:
        path = f"{self._dir}/{config.id}"
        return Container(config.id, config.name, config.image, config.snapshot, config.created, path)

    def _rows(self) -> tuple[tuple[str, str, Digest, SnapshotID | None, float], ...]:
        sql = "SELECT id, name, image, snapshot, created FROM container_names ORDER BY created DESC, id"
        return tuple(
            (id, name, image, snapshot, created) for id, name, image, snapshot, created in self._db.all(sql)
        )

    def _directories(self) -> set[str]:
        return {name for name in _listing(self._dir) if not name.startswith(".")}

    def _mend(self) -> None:
        """Make the rows say what the directories say; inside of a transaction."""
        rows = {row[0] for row in self._rows()}
        there = self._directories()
        for id in rows - there:
            self._db.run("DELETE FROM container_names WHERE id = ?", (id,))
        for id in there - rows:
            try:
                container = self._container(configs.read(f"{self._dir}/{id}"))
            except NotFoundError:
                discard(f"{self._dir}/{id}")
                continue
            if self._taken(container.name):
                container = container._replace(name=id[:12])
            self._insert(container)

    def _insert(self, container: Container) -> None:
        self._db.run("INSERT INTO container_names VALUES (?,?,?,?,?)", container[:5])

    def _taken(self, name: str) -> bool:
        return self._db.one("SELECT 1 FROM container_names WHERE name = ?", (name,)) is not None

    def _refuse_taken(self, name: str) -> None:
        if self._taken(name):
            raise PybuildError(
                f"the container name {name!r} is in use",
                hint=f"choose another --name, or `pybuild rm {name}` first",
            )


def check_name(name: str) -> None:
    """Raises PybuildError."""
    if not name or name[0] in "_.-" or not _NAME.issuperset(name):
        raise PybuildError(
            f"{name!r} is no name for a container",
            hint="letters, digits, '_', '.' and '-'; the first one a letter or digit",
        )


def lock(path: str) -> int:
    """Take the lock of a container's directory: an open file that holds it, -1 where a supervisor has it.
    Raises NotFoundError where the container is gone."""
    for _ in range(_TRIES):
        try:
            # Not made where it is missing: in a directory that is just being renamed and deleted it would be
            # left over.
            fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            break
        if locks.take(fd):
            # The one who had it may have removed the container.
            if os.path.exists(f"{path}/lock"):
                return fd
            os.close(fd)
            break
        os.close(fd)
        conn = control.connect(path)
        if conn is not None:
            conn.close()
            return -1
        # A supervisor that comes or goes, or somebody who removes the container: a matter of moments.
        time.sleep(_PAUSE)
    else:
        return -1
    raise NotFoundError(f"no such container: {os.path.basename(path)[:12]}")


def discard(path: str) -> str:
    """Rename a container's directory away, which removes it for everybody at once; its place in the trash."""
    trash = os.path.join(os.path.dirname(path), ".trash")
    os.makedirs(trash, 0o700, exist_ok=True)
    place = f"{trash}/{os.urandom(8).hex()}"
    os.rename(path, place)
    return place


def _made_up(id: str) -> str:
    number = bytes.fromhex(id[:16])
    return f"{_LEFT[number[0] % len(_LEFT)]}_{_RIGHT[number[1] % len(_RIGHT)]}_{number[2:4].hex()}"


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
