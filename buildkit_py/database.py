"""The one SQLite file of a store: WAL mode, so that any number of processes read while one writes.

Each package that keeps a table passes its DDL (``CREATE TABLE IF NOT EXISTS …``) to :meth:`Database.ensure`.
One connection serves all threads of a process under a lock. ``synchronous=NORMAL``: a power cut may lose
the last transactions, never the file; a lost row only means that a step runs again.

What the disk or other processes refuse is a StoreError; any other fault of a statement is ours, and shows.
"""

from __future__ import annotations

import sqlite3
import time
from _thread import RLock  # what threading.RLock is, without importing threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from buildkit_py.errors import StoreError
from buildkit_py.typed import Any

SCHEMA_VERSION = 1
_TIMEOUT = 60
"""Seconds for which others' transactions are waited for."""


class Database:
    def __init__(self, path: str) -> None:
        self._lock = RLock()
        self._ensured: set[str] = set()
        try:
            self._db = sqlite3.connect(path, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous=NORMAL")
            version = self._set_up()
        except sqlite3.Error as e:
            raise StoreError(f"cannot open the store's index {path}: {e}", hint=_advice(e)) from e
        if version not in (0, SCHEMA_VERSION):
            raise StoreError(
                f"the store's index {path} has schema {version}; this pybuild knows {SCHEMA_VERSION}",
                hint="use the pybuild that made it, or another PYBUILD_ROOT",
            )

    def _set_up(self) -> int:
        """The version of the file's schema; 0: it was made now."""
        end = time.monotonic() + _TIMEOUT
        while True:
            try:
                version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    self._db.execute("PRAGMA journal_mode=WAL")
                    self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                return version
            except sqlite3.OperationalError as e:
                # Changing the mode wants the file alone, and SQLite does not wait for that: another process
                # is making the same store.
                if e.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.005)

    @classmethod
    def copy(cls, path: str, without: Collection[str] = ()) -> Database:
        """A database in memory with what another one holds now; of the tables ``without`` nothing."""
        made = cls(":memory:")
        made._db.execute("ATTACH ? AS source", (path,))
        # AUTOINCREMENT's own table can't be made, and no copy needs it.
        for name, sql in made._db.execute(
            "SELECT name, sql FROM source.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall():
            made._db.execute(sql)
            if name not in without:
                made._db.execute(f'INSERT INTO "{name}" SELECT * FROM source."{name}"')
        made._db.execute("DETACH source")
        return made

    def ensure(self, ddl: str) -> None:
        """Run a script of CREATE … IF NOT EXISTS statements once per process."""
        if ddl not in self._ensured:
            with self._lock:
                for statement in ddl.split(";"):
                    if statement.strip():
                        self.run(statement)
                self._ensured.add(ddl)

    def all(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(sql, args).fetchall()
            except sqlite3.DatabaseError as e:
                raise _explained(e) from e

    def one(self, sql: str, args: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        with self._lock:
            try:
                row: tuple[Any, ...] | None = self._db.execute(sql, args).fetchone()
            except sqlite3.DatabaseError as e:
                raise _explained(e) from e
            return row

    def run(self, sql: str, args: Sequence[Any] = ()) -> int:
        """Execute one statement; return the number of rows it changed."""
        with self._lock:
            try:
                return self._db.execute(sql, args).rowcount
            except sqlite3.DatabaseError as e:
                raise _explained(e) from e

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE … COMMIT; rolled back when the body raises."""
        with self._lock:
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk rolls back by itself
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _explained(error: sqlite3.DatabaseError) -> Exception:
    hint = _advice(error)
    return StoreError(f"the store's index: {error}", hint=hint) if hint else error


def _advice(error: sqlite3.Error) -> str:
    """What a person can do about it; "" for what no disk and no other process is the cause of."""
    elsewhere = "or keep the store elsewhere (PYBUILD_ROOT)"
    damaged = "move the store away and build again"
    hints = {
        sqlite3.SQLITE_FULL: f"run `pybuild prune -af`, free some space, {elsewhere}",
        sqlite3.SQLITE_READONLY: f"correct its owner and its permissions, {elsewhere}",
        sqlite3.SQLITE_CANTOPEN: f"correct its owner and its permissions, {elsewhere}",
        sqlite3.SQLITE_IOERR: f"see what the kernel says of the disk (dmesg), {elsewhere}",
        sqlite3.SQLITE_BUSY: f"another pybuild has held it for {_TIMEOUT} seconds: try again",
        sqlite3.SQLITE_CORRUPT: damaged,
        sqlite3.SQLITE_NOTADB: damaged,
    }
    return hints.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
