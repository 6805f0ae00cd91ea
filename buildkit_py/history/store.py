"""The builds of a store: one row each in the index, and a directory where something ran (recorder.py).

Rows beyond ``keep`` or older than ``days`` are swept by later builds, with their directories and with the
inputs of keys that no kept build and no result refers to.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator

from buildkit_py.database import Database
from buildkit_py.errors import NotFoundError, UsageError
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.history.record import Build, Step

_DDL = """
CREATE TABLE IF NOT EXISTS builds (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    started REAL NOT NULL, completed REAL NOT NULL, status TEXT NOT NULL, name TEXT NOT NULL,
    record TEXT NOT NULL
)
"""
_COLUMNS = "id, started, completed, status, name, record"
KEEP = 100
"""Builds."""
DAYS = 30.0
_SWEEP_EVERY = 20
"""Builds in which nothing ran: how often one sweeps."""

Row = tuple[str, float, float, str, str, str]
"""id, started, completed, status, name, record (JSON; "" while it runs)"""


class History:
    def __init__(self, root: str, db: Database) -> None:
        """Raises UsageError for settings of a wrong form."""
        self._root = os.path.join(root, "history")
        self._db = db
        self.keep = int(_setting("PYBUILD_HISTORY_KEEP", KEEP))
        """0: nothing is recorded."""
        self.days = _setting("PYBUILD_HISTORY_DAYS", DAYS)
        db.ensure(_DDL)

    # Writing

    def write(self, row: Row) -> None:
        number = self._db.one(
            f"INSERT INTO builds ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " completed = excluded.completed, status = excluded.status, record = excluded.record"
            " RETURNING number",
            row,
        )
        if number is not None and number[0] % _SWEEP_EVERY == 0:
            self.sweep()

    def open_journal(self, build: str) -> int:
        """A file that tells by its lock that the build is alive."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self._journal(build), flags, 0o600)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def drop_journal(self, build: str) -> None:
        os.unlink(self._journal(build))
        try:
            os.rmdir(self.directory(build))  # nothing was logged
        except OSError:
            pass

    def sweep(self) -> None:
        """Remove what is too much or too old."""
        oldest = time.time() - self.days * 86400
        rows = self._db.all(
            "SELECT id FROM builds WHERE started < ? OR number <= (SELECT number FROM builds"
            " ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (oldest, self.keep),
        )
        if not rows:
            return
        for (build,) in rows:
            if not self._alive(build):
                self._remove(build)
        from buildkit_py.cache.inputs import KeyInputs

        builds = list(self.builds())
        kept = {step.key for build in builds for step in build.steps if step.key}
        # What was noted before the oldest build that is left, no build refers to but by these keys.
        KeyInputs(self._db).sweep(min((build.started for build in builds), default=oldest), kept)

    def remove(self, build: Build) -> None:
        """Forget a build. Raises UsageError for one that is under way."""
        if build.status == "running":
            raise UsageError(f"the build {build.id} is running", hint="end it first")
        self._remove(build.id)

    def _remove(self, build: str) -> None:
        self._db.run("DELETE FROM builds WHERE id = ?", (build,))
        place = self.directory(build)
        try:
            for name in os.listdir(place):
                os.unlink(os.path.join(place, name))
            os.rmdir(place)
        except FileNotFoundError:
            pass

    # Reading

    def builds(self) -> Iterator[Build]:
        """The latest first."""
        for row in self._db.all(f"SELECT {_COLUMNS} FROM builds ORDER BY started DESC, number DESC"):
            yield self._build(row)

    def find(self, ref: str = "") -> Build:
        """By the beginning of its id; ``^N``: the Nth before the latest; "": the latest.

        Raises NotFoundError, UsageError where several begin like that.
        """
        if not ref or ref.startswith("^"):
            if ref[1:] and not ref[1:].isdecimal():
                raise UsageError(f"'{ref}' is no build", hint="^0 is the latest, ^1 the one before it")
            rows = self._db.all(
                f"SELECT {_COLUMNS} FROM builds ORDER BY started DESC, number DESC LIMIT 1 OFFSET ?",
                (int(ref[1:] or 0),),
            )
        else:
            rows = self._db.all(
                f"SELECT {_COLUMNS} FROM builds WHERE substr(id, 1, ?) = ? LIMIT 2", (len(ref), ref)
            )
        if not rows:
            what = f"there is no build '{ref}'" if ref else "there is no build yet"
            raise NotFoundError(what, hint="'pybuild history ls' shows those that are kept")
        if len(rows) > 1:
            raise UsageError(f"several builds begin with '{ref}'", hint="give more of the id")
        return self._build(rows[0])

    def directory(self, build: str) -> str:
        return os.path.join(self._root, build)

    def log(self, build: Build, step: Step) -> str | None:
        """The file that holds a step's output; None where it had none."""
        path = os.path.join(self.directory(build.id), log_name(step.digest))
        return path if os.path.exists(path) else None

    def _journal(self, build: str) -> str:
        return os.path.join(self.directory(build), "journal")

    def _alive(self, build: str) -> bool:
        """Whether its process lives."""
        try:
            fd = os.open(self._journal(build), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def _build(self, row: tuple[Any, ...]) -> Build:
        from buildkit_py.history.record import Build, step_of

        id, started, completed, status, name, record = row
        if status != "running":
            document = json.loads(record)
            steps = tuple(step_of(step) for step in document["steps"])
            return Build(
                id, started, completed, status, name,
                document["inputs"], document["outputs"], document["error"], steps,
            )  # fmt: skip
        found = self._replay(id)
        alive = found is not None and self._alive(id)
        if not alive:
            # It may have ended since its row was read.
            again = self._db.one(f"SELECT {_COLUMNS} FROM builds WHERE id = ?", (id,))
            if again is not None and again[3] != "running":
                return self._build(again)
        inputs, steps = found or ({}, ())
        if not alive:
            completed = max((s.completed or s.started for s in steps), default=started)
        return Build(
            id, started, completed, "running" if alive else "interrupted", name, inputs, {}, "", steps
        )

    def _replay(self, build: str) -> tuple[dict[str, Any], tuple[Step, ...]] | None:
        """Inputs and steps by the journal; a last line that was not finished doesn't count."""
        from buildkit_py.history.fold import Fold
        from buildkit_py.history.record import step_of

        try:
            with open(self._journal(build), "rb") as f:
                lines = f.read().split(b"\n")[:-1]
        except OSError:
            return None
        if not lines:
            return None
        head, *events = map(json.loads, lines)
        fold = Fold(head["nodes"])
        for kind, *event in events:
            (fold.vertex if kind == "vertex" else fold.ran)(*event)
        return head["inputs"], tuple(map(step_of, fold.steps({})))


def log_name(vertex: str) -> str:
    """The file of a vertex's output, in the build's directory."""
    if vertex.startswith("sha256:"):
        return vertex[7:39] + ".log"
    from buildkit_py.digest import of_bytes

    return of_bytes(vertex.encode("utf-8", "surrogateescape"))[7:39] + ".log"


def _setting(variable: str, default: float) -> float:
    text = os.environ.get(variable, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"{variable}={text} is no number", hint="0 or more")
    return value
