"""The index of results: cache key -> snapshot, in the store's SQLite file.

A row is written after its snapshot is; a crash between the two leaves a snapshot that nothing names, which
the next prune removes. Two processes that make the same result at once (a forced step; see also
buildkit_py.worker.claim) both write; the later row wins and both snapshots are right. A row whose snapshot is
gone counts as a miss.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator

from buildkit_py.database import Database
from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.solver.types import Key
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_DDL = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, snapshot TEXT NOT NULL, name TEXT NOT NULL, step TEXT NOT NULL,
    record TEXT NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL, uses INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_by_snapshot ON results (snapshot);
CREATE INDEX IF NOT EXISTS results_by_step ON results (step, created);
CREATE TABLE IF NOT EXISTS aliases (
    definition TEXT PRIMARY KEY, key TEXT NOT NULL
) WITHOUT ROWID
"""
_COLUMNS = "key, snapshot, name, step, record, created, used, uses"


class Record(NamedTuple):
    """One result. Times are seconds since the epoch; ``step`` groups the runs of one step for explaining."""

    key: Digest
    snapshot: SnapshotID
    name: str
    step: str
    record: dict[str, Any]
    created: float
    used: float
    uses: int


class CacheIndex:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._hits: dict[Digest, None] = {}
        db.ensure(_DDL)

    def get(self, key: Digest) -> SnapshotID | None:
        """The snapshot kept under key, if both are there."""
        row = self._db.one(
            "SELECT r.snapshot FROM results r JOIN snapshots s ON s.id = r.snapshot WHERE r.key = ?", (key,)
        )
        return None if row is None else SnapshotID(row[0])

    def use(self, key: Digest) -> None:
        """A result is used, or spared by one that stands on it: note_uses() will write that down."""
        self._hits[key] = None

    def made(self, key: Digest) -> tuple[SnapshotID, float] | None:
        """The snapshot under key and when it was made, without noting a use."""
        row = self._db.one(
            "SELECT r.snapshot, r.created FROM results r JOIN snapshots s ON s.id = r.snapshot"
            " WHERE r.key = ?",
            (key,),
        )
        return None if row is None else (SnapshotID(row[0]), row[1])

    def put(
        self, key: Key, snapshot: SnapshotID, *, name: str, step: str, created: float | None = None
    ) -> None:
        """``created``: when it was made, elsewhere (None: now)."""
        from buildkit_py.llb.secrecy import hidden

        now = time.time()
        record = json.dumps(hidden(key.record, "hidden:"))
        # What was to go (buildkit_py.engine.garbage) is needed again.
        self._db.run("DELETE FROM doomed WHERE snapshot = ?", (snapshot,))
        self._db.run(
            "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            (key.digest, snapshot, name, step, record, now if created is None else created, now),
        )

    def alias(self, definition: Digest) -> Key | None:
        """The content key that a definition led to when it was last evaluated."""
        row = self._db.one("SELECT key FROM aliases WHERE definition = ?", (definition,))
        return None if row is None else Key(Digest(row[0]), {})

    def put_alias(self, definition: Digest, key: Digest) -> None:
        self._db.run("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (definition, key))

    def aliases(self) -> Iterator[tuple[Digest, Digest]]:
        """Every (definition, content key)."""
        yield from self._db.all("SELECT definition, key FROM aliases")

    def note_uses(self) -> None:
        """Write the times of the uses by this process, in one transaction."""
        if not self._hits:
            return
        now = time.time()
        with self._db.transaction():
            for key in self._hits:
                self._db.run("UPDATE results SET used = ?, uses = uses + 1 WHERE key = ?", (now, key))
        self._hits.clear()

    def records(self) -> Iterator[Record]:
        """Every result, the most recently used first."""
        yield from map(_record, self._db.all(f"SELECT {_COLUMNS} FROM results ORDER BY used DESC, key"))

    def previous(self, step: str, before: float) -> Record | None:
        """The latest result of a step that was made before a time, for explaining a miss."""
        row = self._db.one(
            f"SELECT {_COLUMNS} FROM results WHERE step = ? AND created < ? ORDER BY created DESC LIMIT 1",
            (step, before),
        )
        return None if row is None else _record(row)

    def keys(self, digits: str) -> list[str]:
        """Those that begin with some hex digits."""
        rows = self._db.all("SELECT key FROM results WHERE substr(key, 8, ?) = ?", (len(digits), digits))
        return [key for (key,) in rows]

    def dangling(self) -> list[tuple[str, str]]:
        """(key, step) of results whose snapshots are gone."""
        rows = self._db.all(
            "SELECT key, name FROM results WHERE snapshot NOT IN (SELECT id FROM snapshots) ORDER BY key"
        )
        return [(key, name) for key, name in rows]

    def dangling_aliases(self) -> list[str]:
        """Definitions whose keys lead to no result."""
        rows = self._db.all("SELECT definition FROM aliases WHERE key NOT IN (SELECT key FROM results)")
        return [definition for (definition,) in rows]

    def forget_alias(self, definition: Digest) -> None:
        self._db.run("DELETE FROM aliases WHERE definition = ?", (definition,))

    def forget(self, keys: Iterable[Digest]) -> None:
        with self._db.transaction():
            for key in keys:
                self._db.run("DELETE FROM results WHERE key = ?", (key,))
                self._db.run("DELETE FROM aliases WHERE key = ?", (key,))


def _record(row: tuple[Any, ...]) -> Record:
    return Record(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5], row[6], row[7])
