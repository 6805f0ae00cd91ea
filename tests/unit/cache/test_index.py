"""The index of results in a real SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.cache import keys
from buildkit_py.cache.index import CacheIndex
from buildkit_py.database import Database
from buildkit_py.digest import SnapshotID, of_bytes
from buildkit_py.solver.types import Key

KEY = keys.key_of({"op": "exec", "args": ["make"]})


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "index.db"))
    database.ensure("CREATE TABLE snapshots (id TEXT PRIMARY KEY); CREATE TABLE doomed (snapshot TEXT)")
    yield database
    database.close()


def keep(db: Database, snapshot: str) -> SnapshotID:
    db.run("INSERT INTO snapshots VALUES (?)", (snapshot,))
    return SnapshotID(snapshot)


def test_a_kept_result_is_found_by_another_process(db: Database, tmp_path: Path) -> None:
    CacheIndex(db).put(KEY, keep(db, "s1"), name="RUN make", step="make")
    other = Database(str(tmp_path / "index.db"))
    assert CacheIndex(other).get(KEY.digest) == "s1"
    other.close()


def test_a_result_whose_snapshot_is_gone_is_a_miss(db: Database) -> None:
    index = CacheIndex(db)
    index.put(KEY, keep(db, "s1"), name="RUN make", step="make")
    db.run("DELETE FROM snapshots")
    assert index.get(KEY.digest) is None


def test_an_unknown_key_is_a_miss(db: Database) -> None:
    assert CacheIndex(db).get(of_bytes(b"")) is None


def test_the_later_of_two_results_counts(db: Database) -> None:
    index = CacheIndex(db)
    index.put(KEY, keep(db, "s1"), name="a", step="a")
    index.put(KEY, keep(db, "s2"), name="a", step="a")
    assert index.get(KEY.digest) == "s2"


def test_uses_are_counted_in_one_transaction(db: Database) -> None:
    index = CacheIndex(db)
    index.put(KEY, keep(db, "s1"), name="a", step="a")
    before = next(index.records()).used
    index.get(KEY.digest)
    index.note_uses()
    assert next(index.records()).uses == 0, "to look is no use"
    for _ in range(2):
        index.use(KEY.digest)
        index.note_uses()
    record = next(index.records())
    assert record.uses == 2
    assert record.used >= before


def test_an_alias_leads_to_the_content_key(db: Database) -> None:
    index = CacheIndex(db)
    definition = of_bytes(b"definition")
    assert index.alias(definition) is None
    index.put_alias(definition, KEY.digest)
    assert index.alias(definition) == Key(KEY.digest, {})


def test_forgetting_a_key_forgets_its_aliases(db: Database) -> None:
    index = CacheIndex(db)
    index.put(KEY, keep(db, "s1"), name="a", step="a")
    index.put_alias(of_bytes(b"definition"), KEY.digest)
    index.forget([KEY.digest])
    assert index.get(KEY.digest) is None
    assert index.alias(of_bytes(b"definition")) is None


def test_the_previous_run_of_a_step_is_kept_for_explaining(db: Database) -> None:
    index = CacheIndex(db)
    index.put(KEY, keep(db, "s1"), name="RUN make", step="make")
    record = index.previous("make", float("inf"))
    assert record is not None
    assert record.record["args"] == ["make"]
    assert index.previous("make", 0.0) is None


def test_values_that_look_secret_are_not_written_down(db: Database) -> None:
    index = CacheIndex(db)
    key = keys.key_of({"op": "exec", "env": ["API_TOKEN=s3cret", "MODE=fast"]})
    index.put(key, keep(db, "s1"), name="RUN make", step="make")
    assert next(index.records()).record["env"] == ["API_TOKEN=hidden:", "MODE=fast"]
    assert index.get(key.digest) == "s1"
