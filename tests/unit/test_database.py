"""The SQLite file of a store, as several processes meet it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from buildkit_py.database import Database
from buildkit_py.errors import StoreError


def _use(path: str) -> None:
    database = Database(path)
    database.ensure("CREATE TABLE IF NOT EXISTS t (a)")
    database.run("INSERT INTO t VALUES (1)")
    database.close()


def test_many_make_it_at_once(tmp_path: Path) -> None:
    for n in range(20):
        path = str(tmp_path / f"{n}.db")
        gate, opener = os.pipe()
        children = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    os.close(opener)
                    os.read(gate, 1)
                    _use(path)
                    status = 0
                finally:
                    os._exit(status)
            children.append(pid)
        os.close(opener)
        os.close(gate)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
        database = Database(path)
        assert database.one("SELECT count(*) FROM t") == (8,)
        assert database.one("PRAGMA journal_mode") == ("wal",)
        database.close()


def test_a_full_disk_is_told_and_undone(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "index.db"))
    database.ensure("CREATE TABLE IF NOT EXISTS t (a)")
    database.run("PRAGMA max_page_count = 8")
    with pytest.raises(StoreError, match="full") as caught, database.transaction():
        for _ in range(100):
            database.run("INSERT INTO t VALUES (?)", ("x" * 1000,))
    assert "pybuild prune" in caught.value.hint
    assert database.one("SELECT count(*) FROM t") == (0,)
    database.run("INSERT INTO t VALUES (1)")
    database.close()


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="not a database") as caught:
        Database(str(path))
    assert "move the store away" in caught.value.hint


def test_a_wrong_statement_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "index.db"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.one("SELECT * FROM missing")
    database.close()
