"""Reasons that real builds seldom have: records that are not kept, remote sources, another version's keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.cache import keys
from buildkit_py.cache.index import CacheIndex
from buildkit_py.cache.inputs import FileState, KeyInputs
from buildkit_py.database import Database
from buildkit_py.digest import Digest
from buildkit_py.history.store import History
from buildkit_py.history.why import FileChange, Reason, document, explain
from buildkit_py.history.wording import MOST_FILES, lines
from buildkit_py.solver.types import Key


class Past:
    """Builds of one step each, by the record of its key."""

    def __init__(self, root: Path, db: Database) -> None:
        CacheIndex(db)
        self.history = History(str(root), db)
        self.inputs = KeyInputs(db)
        self.count = 0

    def build(self, record: dict[str, Any], *, noted: bool = True, op: str = "Exec", **fields: Any) -> None:
        self.count += 1
        key = keys.key_of(record)
        key = Key(key.digest, {**key.record, **record})
        name = "[1/1] RUN make"
        if noted:
            self.inputs.note(key, name=name, stage="0", hashed={})
        step = {"digest": "sha256:n", "name": name, "state": "ran", "op": op, "stage": "0", "key": key.digest}
        found = {"inputs": {}, "outputs": {}, "error": "", "steps": [{**step, **fields}]}
        row = (f"b{self.count}", self.count, self.count + 1, "completed", "app", json.dumps(found))
        self.history.write(row)

    def why(self) -> list[dict[str, Any]]:
        (explanation,) = explain(self.history.find(), self.history, self.inputs)
        reasons: list[dict[str, Any]] = document(explanation)["reasons"]
        return reasons


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    database = Database(str(tmp_path / "index.db"))
    yield Past(tmp_path, database)
    database.close()


def exec_record(**fields: Any) -> dict[str, Any]:
    plain = {"op": "exec", "parent": None, "args": ["make"], "env": [], "mounts": []}
    return {**plain, **fields}


def test_a_record_that_is_not_kept(past: Past) -> None:
    past.build(exec_record(args=["a"]), noted=False)
    past.build(exec_record(args=["b"]))
    assert past.why() == [{"kind": "unknown"}]


def test_only_the_name_is_remembered(past: Past) -> None:
    past.build(exec_record(args=["a"]))
    past.history.remove(past.history.find())
    past.build(exec_record(args=["a"], cwd="/x"))
    assert past.why() == [{"kind": "setting", "name": "working directory", "old": None, "new": "/x"}]


def test_keys_of_another_version(past: Past) -> None:
    past.build(exec_record(v=0))
    past.build(exec_record())
    assert past.why() == [{"kind": "format"}]


@pytest.mark.parametrize(("kind", "field"), [("git", "commit"), ("http", "digest")])
def test_a_remote_source(past: Past, kind: str, field: str) -> None:
    past.build({"op": kind, field: "1"}, op=kind)
    past.build({"op": kind, field: "2"}, op=kind)
    assert past.why() == [{"kind": "source", "name": "RUN make", "old": "1", "new": "2"}]


def test_content_of_which_no_list_is_kept(past: Past) -> None:
    action = ["Copy", "/x/", False, "", "", False, "never"]
    for digest in ("sha256:1", "sha256:2"):
        past.build({"op": "file", "parent": None, "actions": [[action, Digest(digest)]]}, op="File")
    (reason,) = past.why()
    assert reason == {"kind": "content", "name": "its source", "old": "sha256:1", "new": "sha256:2"}


def test_an_option_of_a_copy(past: Past) -> None:
    for chmod in ("", "755"):
        action = ["Copy", "/x/", False, "", chmod, False, "never"]
        past.build({"op": "file", "parent": None, "actions": [[action, "sha256:1"]]}, op="File")
    assert past.why() == [{"kind": "setting", "name": "chmod", "old": "", "new": "755"}]


def test_a_mount_that_came_and_one_that_went(past: Past) -> None:
    for target in ("/a", "/b"):
        past.build(exec_record(mounts=[["tmpfs", target, "/", False, "", "", 0, None, None]]))
    went, came = past.why()
    assert (went["name"], went["new"]) == ("tmpfs /a", None)
    assert (came["name"], came["old"]) == ("tmpfs /b", None)


def test_a_chain_that_was_forced_says_so(past: Past) -> None:
    past.build(exec_record())
    past.build(exec_record(), forced=True)
    assert past.why() == [{"kind": "no-cache"}]


def state(mode: int = 0o100644, size: int = 1, content: str = "sha256:" + 64 * "a", **more: Any) -> FileState:
    return FileState(mode, 0, 0, size, 0, content)._replace(**more)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (state(), state(0o120777, 0, "target"), "file -> link"),
        (state(), state(uid=5), "owner 0:0 -> 5:0"),
        (state(), state(xattrs=b"x"), "extended attributes"),
        (state(0o20644, rdev=1), state(0o20644, rdev=2), "device 1 -> 2"),
        (None, state(0o40755, 0, ""), "new, directory, mode 0755"),
        (state(0o120777, 0, "here"), None, "gone, link to here"),
        (state(0o120777, 0, "here"), state(0o120777, 0, "there"), "here -> there"),
    ],
)
def test_files_in_words(old: FileState | None, new: FileState | None, said: str) -> None:
    reason = Reason("file", "the build context", files=(FileChange("p", old, new),))
    assert lines(reason) == ["a file changed in the build context", f"  p: {said}"]


def test_many_files_in_words() -> None:
    changes = tuple(FileChange(f"f{n}", None, state()) for n in range(1000))
    said = lines(Reason("file", "the build context", files=changes))
    assert len(said) == MOST_FILES + 2
    assert said[-1] == f"  and {1000 - MOST_FILES} more"


def test_long_values_in_words() -> None:
    said = lines(Reason("arg", "A", "x" * 10_000, "y"))
    assert max(map(len, said)) < 250


def test_a_step_of_the_same_name_with_another_result() -> None:
    name = "[2/3] COPY . /x"
    assert lines(Reason("parent", "", name, name)) == [f"it stands on another result of {name}"]
