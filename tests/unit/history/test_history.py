"""How builds are recorded, found and forgotten; in a real store, by real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.cache import keys
from buildkit_py.cache.index import CacheIndex
from buildkit_py.cache.inputs import KeyInputs
from buildkit_py.database import Database
from buildkit_py.digest import Digest
from buildkit_py.errors import NotFoundError, UsageError
from buildkit_py.history.record import Build
from buildkit_py.history.recorder import Recorder
from buildkit_py.history.store import History
from buildkit_py.llb.graph import Graph, Meta
from buildkit_py.llb.ops import Exec, ImageSource
from buildkit_py.progress.events import LogEvent, VertexEvent, ignore
from buildkit_py.request import BuildRequest, BuildResult, SecretSpec
from buildkit_py.solver.types import Key

KEY = Key(Digest("sha256:" + 64 * "1"), {})


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "index.db"))
    CacheIndex(database)
    yield database
    database.close()


@pytest.fixture
def history(tmp_path: Path, db: Database) -> History:
    return History(str(tmp_path), db)


def graph() -> Graph:
    made = Graph()
    base = made.add(ImageSource("docker.io/library/busybox:1", "sha256:b", "linux/amd64"), (), Meta("FROM b"))
    made.add(Exec(("make",), (), "/"), (base,), Meta("[1/1] RUN make", "Dockerfile", 2, 2, "0"))
    return made


def recorder(history: History, **fields: object) -> Recorder:
    request = BuildRequest("/src/app", **fields)  # type: ignore[arg-type]
    record = Recorder(history, request, ignore)
    record.loaded("Dockerfile", b"FROM b\nRUN make\n", {"MODE"}, graph())
    return record


def run_step(record: Recorder, output: bytes = b"", *, end: bool = True) -> None:
    """As the solver and the worker tell of the graph's RUN."""
    *_, node = graph().nodes.values()
    event = VertexEvent(node.digest, node.meta.name, started=10.0, inputs=node.inputs)
    record(event)
    record.starting(node, KEY, ["snapshot-1"])
    if output:
        record(LogEvent(node.digest, 1, output, 10.5))
    if end:
        record(event._replace(completed=12.5))


def test_a_build_with_all_it_had(history: History) -> None:
    record = recorder(
        history,
        tags=("app:1",),
        build_args=(("MODE", "fast"), ("API_TOKEN", "s3cret"), ("INDEX", "https://me:pw@host.example/")),
        secrets=(SecretSpec("npm", "/home/me/.npmrc"),),
    )
    run_step(record, b"hello\n")
    record.finish(BuildResult("sha256:i", ("docker.io/library/app:1",)), None)
    (build,) = history.builds()
    assert (build.id, build.status, build.name) == (record.id, "completed", "app:1")
    assert build.inputs["context"] == "/src/app"
    assert build.inputs["args"] == {"MODE": "fast", "API_TOKEN": None, "INDEX": "https://host.example/"}
    assert build.inputs["secrets"] == ["npm"]
    assert build.inputs["bases"] == ["docker.io/library/busybox:1@sha256:b"]
    assert build.outputs == {"image": "sha256:i", "names": ["docker.io/library/app:1"]}
    (step,) = build.work
    assert (step.name, step.text, step.state, step.seconds) == ("[1/1] RUN make", "RUN make", "ran", 2.5)
    assert (step.stage, step.line, step.op, step.key) == ("0", 2, "Exec", KEY.digest)
    assert step.parents == ("snapshot-1",)
    path = history.log(build, step)
    assert path is not None and Path(path).read_bytes() == b"hello\n"


def test_nothing_but_a_row_where_nothing_ran(history: History, tmp_path: Path) -> None:
    record = recorder(history)
    *_, node = graph().nodes.values()
    record(VertexEvent(node.digest, node.meta.name, 10.0, 10.0, True))
    record.keys = {node.digest: KEY.digest}
    record.finish(BuildResult(), None)
    (build,) = history.builds()
    assert [(s.state, s.key) for s in build.work] == [("cached", KEY.digest)]
    assert build.name == "app"
    assert not (tmp_path / "history").exists()


def test_a_failed_and_a_stopped_build(history: History) -> None:
    for error in (ValueError("no such thing"), KeyboardInterrupt()):
        recorder(history).finish(None, error)
    stopped, failed = history.builds()
    assert (failed.status, failed.error) == ("failed", "no such thing")
    assert (stopped.status, stopped.error) == ("canceled", "KeyboardInterrupt")


def test_long_logs_are_kept_whole(history: History) -> None:
    record = recorder(history)
    run_step(record, b"x" * 3_000_000 + b"\x1b[31m\0end")
    record.finish(BuildResult(), None)
    build = history.find()
    path = history.log(build, build.work[0])
    assert path is not None and Path(path).read_bytes() == b"x" * 3_000_000 + b"\x1b[31m\0end"


def test_steps_at_the_same_time_have_lanes(history: History) -> None:
    record = recorder(history)
    for name, started, completed in (
        ("a", 1, None),
        ("b", 2, None),
        ("a", 1, 3),
        ("c", 4, None),
        ("b", 2, 5),
        ("c", 4, 6),
    ):
        record(VertexEvent(name, name, started, completed))
    record.finish(BuildResult(), None)
    assert {s.name: s.lane for s in history.find().steps} == {"a": 0, "b": 1, "c": 0}


KILLED = """
import os, sys
from tests.unit.history.test_history import *
root = sys.argv[1]
history = History(root, Database(os.path.join(root, "index.db")))
record = recorder(history)
run_step(record, b"so far", end=False)
print(record.id, flush=True)
sys.stdin.read()
"""


def test_a_build_that_runs_and_one_that_was_killed(history: History, tmp_path: Path) -> None:
    repository = str(Path(__file__).parents[3])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=repository,
        text=True,
    )
    with process:
        assert process.stdout is not None
        id = process.stdout.readline().strip()
        running = history.find(id)
        assert (running.status, running.work[0].state) == ("running", "running")
        with pytest.raises(UsageError, match="is running"):
            history.remove(running)
        process.kill()
        process.wait()
    killed = history.find(id)
    assert (killed.status, killed.work[0].state) == ("interrupted", "running")
    assert killed.inputs["context"] == "/src/app"
    assert killed.work[0].key == KEY.digest
    path = history.log(killed, killed.work[0])
    assert path is not None and Path(path).read_bytes() == b"so far"
    history.remove(killed)
    assert list(history.builds()) == []
    assert os.listdir(tmp_path / "history") == []


def test_a_journal_that_was_cut_off_in_a_line(history: History, tmp_path: Path) -> None:
    record = recorder(history)
    run_step(record, end=False)
    journal = tmp_path / "history" / record.id / "journal"
    journal.write_bytes(journal.read_bytes()[:-5])
    assert [s.state for s in history.find().work] == ["running"]
    record.finish(BuildResult(), None)


def many(history: History, count: int) -> list[Build]:
    for _ in range(count):
        recorder(history).finish(BuildResult(), None)
    return list(history.builds())


def test_finding(history: History) -> None:
    with pytest.raises(NotFoundError, match="no build yet"):
        history.find()
    last, second, first = many(history, 3)
    assert [history.find(ref).id for ref in ("", "^", "^0", "^1", "^2")] == [
        last.id,
        last.id,
        last.id,
        second.id,
        first.id,
    ]
    assert history.find(first.id[:8]).id == first.id
    for wrong in ("^3", "zzz"):
        with pytest.raises(NotFoundError, match="no build '"):
            history.find(wrong)
    with pytest.raises(UsageError):
        history.find("^x")


def test_an_ambiguous_id(history: History) -> None:
    builds = many(history, 17)
    first_letters = [b.id[0] for b in builds]
    twice = next(letter for letter in first_letters if first_letters.count(letter) > 1)
    with pytest.raises(UsageError, match="several builds"):
        history.find(twice)


def test_history_is_bounded_by_number(tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYBUILD_HISTORY_KEEP", "3")
    history = History(str(tmp_path), db)
    for _ in range(5):
        record = recorder(history)
        run_step(record, b"log")
        record.finish(BuildResult(), None)
    kept = [build.id for build in history.builds()]
    assert len(kept) == 3
    assert sorted(os.listdir(tmp_path / "history")) == sorted(kept)


def test_history_is_bounded_where_nothing_runs(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYBUILD_HISTORY_KEEP", "3")
    assert len(many(History(str(tmp_path), db), 50)) <= 3 + 20


def test_history_is_bounded_by_age(history: History, db: Database) -> None:
    old, *_ = many(history, 1)
    db.run("UPDATE builds SET started = ?", (time.time() - 31 * 86400,))
    record = recorder(history)
    run_step(record)
    record.finish(BuildResult(), None)
    assert [build.id for build in history.builds()] == [record.id]
    with pytest.raises(NotFoundError):
        history.find(old.id)


def test_no_history_where_none_is_wanted(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYBUILD_HISTORY_KEEP", "0")
    history = History(str(tmp_path), db)
    record = recorder(history)
    run_step(record, b"log")
    record.finish(BuildResult(), None)
    assert list(history.builds()) == [] and not (tmp_path / "history").exists()


@pytest.mark.parametrize("text", ["many", "-1", "nan"])
def test_a_setting_of_a_wrong_form(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PYBUILD_HISTORY_KEEP", text)
    with pytest.raises(UsageError, match="PYBUILD_HISTORY_KEEP"):
        History(str(tmp_path), db)


def test_a_store_that_cannot_be_written_fails_no_build(
    history: History, db: Database, tmp_path: Path
) -> None:
    (tmp_path / "history").write_text("in the way")
    record = recorder(history)
    run_step(record, b"log")
    record.finish(BuildResult(), None)
    assert list(history.builds()) == []


def test_inputs_of_keys_go_with_the_builds(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYBUILD_HISTORY_KEEP", "3")
    history, inputs = History(str(tmp_path), db), KeyInputs(db)
    made = []
    for n in range(6):
        record = recorder(history)
        key = keys.key_of({"op": "exec", "args": [str(n)]})
        inputs.note(key, name="[1/1] RUN make", stage="0", hashed={})
        *_, node = graph().nodes.values()
        record(VertexEvent(node.digest, node.meta.name, started=10.0, inputs=node.inputs))
        record.starting(node, key, [None])
        record.finish(BuildResult(), None)
        made.append(key.digest)
    assert [inputs.get(key) is not None for key in made] == [False, False, False, True, True, True]
