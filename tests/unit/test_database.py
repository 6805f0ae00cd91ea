"""The SQLite file of a store, as several processes meet it."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit_py.database import Database


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
