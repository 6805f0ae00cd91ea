"""The inputs of keys, in a real SQLite file."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from buildkit_py.cache import keys
from buildkit_py.cache.hashing import Preimage
from buildkit_py.cache.index import CacheIndex
from buildkit_py.cache.inputs import HIDDEN, FileState, KeyInputs, contents_of, parse
from buildkit_py.cache.statcache import StatCache
from buildkit_py.database import Database
from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.llb.ops import Copy, Exec, File
from buildkit_py.llb.secrecy import is_hidden
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.solver.types import Key
from buildkit_py.worker.file import copy_content_key
from tests.support.filetree import plant

COPY = Copy(1, (".",), "/x/")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "index.db"))
    CacheIndex(database)
    # Of the snapshots' part of the schema.
    database.ensure("CREATE TABLE doomed (snapshot TEXT)")
    yield database
    database.close()


def files(tmp_path: Path) -> Path:
    lines = ["f 640 0:0 a | A", "d 750 0:0 d", "f 755 0:0 d/c | C", "l 777 0:0 l -> d/c"]
    return plant(tmp_path / "context", lines)


def copy_key(root: Path, cache: StatCache | None = None) -> tuple[Key, dict[Digest, Preimage]]:
    """The key of COPY . /x/ and what gives its bytes."""
    digest, selection = copy_content_key(COPY, DirTree(str(root)), cache)
    return keys.key_of(keys.file_record(File((COPY,)), None, [digest])), {digest: selection.hashed}


def note(inputs: KeyInputs, key: Key, hashed: dict[Digest, Preimage]) -> None:
    inputs.note(key, name="[1/1] COPY . /x/", stage="0", hashed=hashed)


def test_every_file_of_a_key_can_be_read_again(db: Database, tmp_path: Path) -> None:
    inputs = KeyInputs(db)
    key, hashed = copy_key(files(tmp_path))
    note(inputs, key, hashed)
    found = inputs.get(key.digest)
    assert found is not None and found.name == "[1/1] COPY . /x/" and found.stage == "0"
    ((_, digest),) = contents_of(found.record)
    assert inputs.files(digest) == {
        "a": FileState(stat.S_IFREG | 0o640, 0, 0, 1, 0, "sha256:" + sha256(b"A").hexdigest()),
        "d": FileState(stat.S_IFDIR | 0o750, 0, 0, 0, 0, ""),
        "d/c": FileState(stat.S_IFREG | 0o755, 0, 0, 1, 0, "sha256:" + sha256(b"C").hexdigest()),
        "l": FileState(stat.S_IFLNK | 0o777, 0, 0, 0, 0, "d/c"),
    }


def test_extended_attributes_are_told(db: Database, tmp_path: Path) -> None:
    root = files(tmp_path)
    os.setxattr(root / "a", "user.note", b"x")
    inputs = KeyInputs(db)
    key, hashed = copy_key(root)
    note(inputs, key, hashed)
    ((_, digest),) = contents_of(key.record)
    states = inputs.files(digest)
    assert states is not None and b"user.note" in states["a"].xattrs


def test_a_list_is_had_where_the_stat_cache_knew_the_digest(db: Database, tmp_path: Path) -> None:
    root = files(tmp_path)
    for place, _, names in os.walk(root):
        for name in names:
            os.utime(Path(place, name), (1, 1), follow_symlinks=False)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        # Files of the last 20 ms are not remembered: once they are older, nothing is hashed.
        _, selection = copy_content_key(
            COPY, DirTree(str(root)), StatCache.of_directory(str(tmp_path), str(root))
        )
        key, hashed = copy_key(root, StatCache.of_directory(str(tmp_path), str(root)))
        cells = [c.cell_contents for c in selection.hashed.data.__closure__ or ()]
        if [] in cells:
            break
    else:
        pytest.fail("the stat cache never knew the digest")
    inputs = KeyInputs(db)
    note(inputs, key, hashed)
    ((_, digest),) = contents_of(key.record)
    assert sorted(inputs.files(digest) or ()) == ["a", "d", "d/c", "l"]


def test_a_list_that_is_not_the_keys_is_not_kept(db: Database, tmp_path: Path) -> None:
    inputs = KeyInputs(db)
    key, _ = copy_key(files(tmp_path))
    ((_, digest),) = contents_of(key.record)
    note(inputs, key, {digest: Preimage(lambda: b"pybuild content 1\0something else")})
    assert inputs.files(digest) is None
    assert inputs.get(key.digest) is not None


def test_a_key_never_seen_has_no_inputs(db: Database) -> None:
    assert KeyInputs(db).get("sha256:" + 64 * "0") is None
    assert KeyInputs(db).files("sha256:" + 64 * "0") is None


def test_values_that_look_secret_are_compared_but_not_kept(db: Database, tmp_path: Path) -> None:
    inputs = KeyInputs(db)
    records = []
    for token in ("first", "first", "second"):
        env = (f"API_TOKEN={token}", "MODE=fast", "INDEX=https://me:pw@host.example/simple")
        key = keys.key_of(keys.exec_record(Exec(("make",), env, "/"), [Digest("sha256:base")], []))
        inputs.note(key, name="RUN make", stage="0", hashed={})
        found = inputs.get(key.digest)
        assert found is not None
        records.append(found.record["env"])
    assert records[0] == records[1] != records[2]
    assert records[0][0].startswith("API_TOKEN=" + HIDDEN)
    assert records[0][1] == "MODE=fast"
    assert records[0][2].startswith(f"INDEX=https://host.example/simple ({HIDDEN}")
    db.close()
    data = b"".join(path.read_bytes() for path in tmp_path.glob("index.db*"))
    assert b"host.example" in data
    assert b"first" not in data and b"second" not in data and b"me:pw" not in data


@pytest.mark.parametrize(
    "name", ["GITHUB_TOKEN", "DB_PASS", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "npm_auth"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["PATH", "VERSION", "MONKEY", "PASSENGER", "PYTHONPATH", "KEYBOARD"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_hidden(name)


def test_sweeping_keeps_what_has_a_result_or_is_asked_for(db: Database, tmp_path: Path) -> None:
    inputs, index = KeyInputs(db), CacheIndex(db)
    root = files(tmp_path)
    made = []
    for content in ("one", "two", "three"):
        (root / "a").write_text(content)
        key, hashed = copy_key(root)
        note(inputs, key, hashed)
        made.append(key)
    index.put(made[1], SnapshotID("s"), name="COPY", step="")
    assert inputs.sweep(time.time() + 1, keep=[made[2].digest]) == 1
    assert [inputs.get(key.digest) is not None for key in made] == [False, True, True]
    lists = [inputs.files(contents_of(key.record)[0][1]) is not None for key in made]
    assert lists == [False, True, True]


def test_sweeping_keeps_what_is_young(db: Database, tmp_path: Path) -> None:
    inputs = KeyInputs(db)
    key, hashed = copy_key(files(tmp_path))
    note(inputs, key, hashed)
    assert inputs.sweep(time.time() - 60) == 0
    assert inputs.get(key.digest) is not None


def test_steps_are_found_by_name(db: Database) -> None:
    inputs = KeyInputs(db)
    for args in (("a",), ("b",)):
        key = keys.key_of(keys.exec_record(Exec(args, (), "/"), [Digest("sha256:base")], []))
        inputs.note(key, name="[1/2] RUN x", stage="build", hashed={})
    assert [found.record["args"] for found in inputs.of_step("[1/2] RUN x", "build")] == [["b"], ["a"]]
    assert inputs.of_step("[1/2] RUN x", "other") == []


def test_something_else_is_no_list() -> None:
    with pytest.raises(ValueError):
        parse(b"something else")


@pytest.mark.parametrize(
    ("action", "paths"),
    [
        (Copy(1, ("d",), "/x/"), ["d/c"]),
        (Copy(1, ("a", "d"), "/x/"), ["a", "d/c"]),
        (Copy(1, ("d/c",), "/x/other"), ["d/c"]),
        (Copy(1, ("*/c",), "/x/"), ["d/c"]),
        (Copy(1, ("l",), "/x/"), ["d/c"]),
        (Copy(1, ("./d",), "/x/", parents=True), ["d", "d/c"]),
    ],
)
def test_files_are_told_by_their_path_in_the_source(
    db: Database, tmp_path: Path, action: Copy, paths: list[str]
) -> None:
    inputs = KeyInputs(db)
    digest, selection = copy_content_key(action, DirTree(str(files(tmp_path))), None)
    key = keys.key_of(keys.file_record(File((action,)), None, [digest]))
    note(inputs, key, {digest: selection.hashed})
    found = inputs.get(key.digest)
    assert found is not None
    assert sorted(inputs.files(digest, found.roots[digest]) or ()) == paths


def test_of_a_key_from_elsewhere_the_record_is_known(db: Database) -> None:
    key = keys.key_of({"op": "exec", "args": ["make"], "env": ["TOKEN=abc", "A=1"]})
    CacheIndex(db).put(key, SnapshotID("s"), name="RUN make", step="")
    found = KeyInputs(db).get(key.digest)
    assert found is not None and found.name == "RUN make" and found.roots == {}
    assert found.record["env"][0].startswith("TOKEN=" + HIDDEN) and found.record["env"][1] == "A=1"
