"""What a content digest depends on, and what it doesn't."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from buildkit_py.cache import hashing
from buildkit_py.digest import Digest, is_valid
from buildkit_py.errors import PybuildError
from buildkit_py.llb.ops import Copy
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.worker.file import copy_content_key
from tests.support.filetree import plant


def key(root: Path, *sources: str, dest: str = "/x/", **options: object) -> Digest:
    action = Copy(1, sources or (".",), dest, **options)  # type: ignore[arg-type]
    return copy_content_key(action, DirTree(str(root)), None)[0]


BASE = ["f 644 0:0 d/a | A", "f 644 0:0 d/sub/b | B", "l 777 0:0 d/l -> a", "d 755 0:0 d/empty"]


def test_the_same_on_every_machine(tmp_path: Path) -> None:
    """A change of the format needs a new version in hashing._VERSION (and here)."""
    digest = key(plant(tmp_path, BASE))
    assert is_valid(digest)
    assert digest == "sha256:b7f6c1bf9dc3acdc69467d225d0b7b322c3c13b6587a2912bba4eda8b365164e"


def test_times_and_inodes_do_not_count(tmp_path: Path) -> None:
    one = plant(tmp_path / "one", BASE)
    other = plant(tmp_path / "other", [line.replace(" d/a", " d/a @1234.5") for line in BASE])
    assert key(one) == key(other)


@pytest.mark.parametrize(
    "changed",
    [
        ["f 644 0:0 d/a | a"],
        ["f 644 0:0 d/a | AA"],
        ["f 645 0:0 d/a | A"],
        ["f 4644 0:0 d/a | A"],
        ["f 644 0:0 d/a {user.k=v} | A"],
        ["d 700 0:0 d/empty"],
        ["d 755 0:0 d/empty {user.k=v}"],
        ["f 644 0:0 d/new"],
        ["d 755 0:0 d/empty/more"],
        ["p 644 0:0 d/fifo"],
    ],
)
def test_what_counts(changed: list[str], tmp_path: Path) -> None:
    one = plant(tmp_path / "one", BASE)
    other = plant(tmp_path / "other", [*BASE, *changed])
    assert key(one) != key(other)


def test_a_link_is_its_target(tmp_path: Path) -> None:
    keys = set()
    for n, target in enumerate(["a", "b", "/a"]):
        keys.add(key(plant(tmp_path / str(n), [f"l 777 0:0 d/l -> {target}"])))
    keys.add(key(plant(tmp_path / "f", ["f 777 0:0 d/l | a"])))
    assert len(keys) == 4


def test_where_a_source_lay_does_not_count(tmp_path: Path) -> None:
    one = plant(tmp_path / "one", ["f 644 0:0 a/b/file | X", "f 644 0:0 dir/x | X", "f 644 0:0 else | Y"])
    other = plant(tmp_path / "other", ["f 644 0:0 c/file | X", "f 644 0:0 src/lib/x | X"])
    assert key(one, "a/b/file") == key(other, "c/file")
    assert key(one, "dir") == key(other, "src/lib")
    assert key(one, "d*") == key(other, "src/lib/")


def test_what_is_not_selected_does_not_count(tmp_path: Path) -> None:
    one = plant(tmp_path / "one", ["f 644 0:0 a | A", "f 644 0:0 b | B"])
    other = plant(tmp_path / "other", ["f 644 0:0 a | A", "f 644 0:0 b | C"])
    assert key(one, "a") == key(other, "a")
    assert key(one, exclude=("b",)) == key(other, exclude=("b",))


def test_a_name_counts_where_it_decides(tmp_path: Path) -> None:
    root = plant(tmp_path, ["f 644 0:0 a | X", "f 644 0:0 b | X", "f 644 0:0 d/a | X"])
    assert key(root, "a") != key(root, "b")
    assert key(root, "a", parents=True) != key(root, "d/a", parents=True)
    assert key(root, "d", dest="/x") != key(root, "a", dest="/x")


def test_records_cannot_be_mistaken_for_one_another(tmp_path: Path) -> None:
    one = plant(tmp_path / "one", ["f 644 0:0 d/a {user.k=12} | x"])
    other = plant(tmp_path / "other", ["f 644 0:0 d/a {user.k1=2} | x"])
    assert key(one) != key(other)


def test_a_changed_mode_is_hashed_as_changed(tmp_path: Path) -> None:
    one = plant(tmp_path / "one", ["f 644 0:0 d/a | A"])
    other = plant(tmp_path / "other", ["f 755 0:0 d/a | A"])
    assert key(one, "d", chmod="600") == key(other, "d", chmod="600")
    assert key(one, "d", chmod="g+w") != key(other, "d", chmod="g+w")


@pytest.mark.needs("root")
def test_owners_count_for_a_stage_alone(tmp_path: Path) -> None:
    trees = [LayerTree([str(plant(tmp_path / str(n) / "fs", [f"f 644 {n}:5 d/a | A"]))]) for n in (1, 2)]
    keep = [copy_content_key(Copy(1, ("d",), "/x", keep_owner=True), t, None)[0] for t in trees]
    given = [copy_content_key(Copy(1, ("d",), "/x", keep_owner=True, chown="9"), t, None)[0] for t in trees]
    context = [copy_content_key(Copy(1, ("d",), "/x"), t, None)[0] for t in trees]
    assert keep[0] != keep[1]
    assert given[0] == given[1]
    assert context[0] == context[1]


@pytest.mark.needs("root")
def test_devices_count_by_number(tmp_path: Path) -> None:
    keys = {key(plant(tmp_path / str(n), [f"c 600 0:0 d/c 1:{n}"])) for n in (3, 5)}
    assert len(keys) == 2


def test_a_socket_is_an_empty_file(tmp_path: Path) -> None:
    one = plant(tmp_path / "one", ["s 640 0:0 d/a"])
    other = plant(tmp_path / "other", ["f 640 0:0 d/a"])
    assert key(one) == key(other)


def test_big_files_and_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path, [f"f 644 0:0 d{n % 5}/f{n} | {n}" for n in range(60)])
    (root / "big").write_bytes(os.urandom(300_000))
    (root / "edge").write_bytes(bytes(65536))
    os.setxattr(root / "big", "user.k", b"v")
    alone = key(root)
    monkeypatch.setattr(hashing, "_MANY", 10)
    assert key(root) == alone
    monkeypatch.setattr(hashing, "_MANY", 10**9)
    monkeypatch.setattr(hashing, "_MUCH", 1)
    assert key(root) == alone


def test_a_child_that_dies_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path, [f"f 644 0:0 f{n} | {n}" for n in range(20)])
    expected = key(root)
    parent = os.getpid()
    read = hashing.read_digest

    def deadly(host: str, size: int = 0) -> tuple[bytes, bool]:
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        return read(host, size)

    monkeypatch.setattr(hashing, "read_digest", deadly)
    monkeypatch.setattr(hashing, "_MANY", 2)
    assert key(root) == expected


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path, ["f 644 0:0 d/secret | S"])

    def refuse(host: str, size: int = 0) -> tuple[bytes, bool]:
        raise PermissionError(13, "Permission denied", host)

    monkeypatch.setattr(hashing, "read_digest", refuse)
    with pytest.raises(PybuildError, match="cannot read d/secret: Permission denied") as raised:
        key(root)
    assert ".dockerignore" in raised.value.hint


def test_a_file_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("S")
    (tmp_path / "l").symlink_to("secret")
    with pytest.raises(OSError):
        hashing.read_digest(str(tmp_path / "l"))
    assert stat.S_ISLNK(os.lstat(tmp_path / "l").st_mode)


def test_a_file_is_trusted_only_when_its_next_change_would_show() -> None:
    second = 1_000_000_000
    now = 1000 * second
    assert hashing.settled(now - 30_000_000, now)
    assert not hashing.settled(now - 10_000_000, now)
    assert not hashing.settled(now + 1, now)
    # A whole second: the file system may know no fractions.
    assert not hashing.settled(now - second, now)
    assert hashing.settled(now - 3 * second, now)
