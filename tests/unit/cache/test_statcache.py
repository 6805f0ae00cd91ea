"""The stat cache: unchanged files are not read again, and a changed one never passes for unchanged."""

from __future__ import annotations

import marshal
import os
import threading
import time
from pathlib import Path

import pytest

from buildkit_py.cache import hashing, statcache
from buildkit_py.cache.statcache import StatCache
from buildkit_py.digest import Digest
from buildkit_py.llb.ops import Copy
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.worker.file import copy_content_key
from tests.support.filetree import plant


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose data is read."""
    seen: list[str] = []
    read = hashing.read_digest

    def watched(host: str, size: int = 0) -> tuple[bytes, bool]:
        seen.append(os.path.basename(host))
        return read(host, size)

    monkeypatch.setattr(hashing, "read_digest", watched)
    return seen


class Project:
    def __init__(self, tmp_path: Path) -> None:
        lines = ["f 644 0:0 a | A", "f 644 0:0 b | B", "f 644 0:0 d/c | C", "l 777 0:0 l -> a"]
        self.root = plant(tmp_path / "context", lines)
        self.store = tmp_path / "store"

    def cache(self) -> StatCache:
        return StatCache.of_directory(str(self.store), str(self.root))

    def key(self, *sources: str, cache: StatCache | None = None) -> Digest:
        tree = DirTree(str(self.root))
        digest = copy_content_key(Copy(1, sources or (".",), "/x/"), tree, cache or self.cache())[0]
        assert digest == copy_content_key(Copy(1, sources or (".",), "/x/"), tree, None)[0]
        return digest

    def files(self, suffix: str) -> list[Path]:
        return list((self.store / "contexts").glob("*" + suffix))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def settle() -> None:
    time.sleep(0.05)


def test_nothing_changed_reads_nothing(
    project: Project, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    first = project.key()
    reads.clear()
    monkeypatch.setattr(StatCache, "table", lambda self: pytest.fail("the table is not needed"))
    action = Copy(1, (".",), "/x/")
    assert copy_content_key(action, DirTree(str(project.root)), project.cache())[0] == first
    assert reads == []


def test_one_changed_file_is_read_alone(project: Project, reads: list[str]) -> None:
    settle()
    first = project.key()
    (project.root / "b").write_text("b")
    settle()
    reads.clear()
    action = Copy(1, (".",), "/x/")
    second = copy_content_key(action, DirTree(str(project.root)), project.cache())[0]
    assert reads == ["b"]
    assert second != first
    (project.root / "b").write_text("B")
    settle()
    assert project.key() == first


@pytest.mark.parametrize("change", ["data", "mode", "xattr", "target", "replaced"])
def test_every_kind_of_change_is_seen(project: Project, change: str) -> None:
    settle()
    first = project.key()
    file = project.root / "a"
    old = os.stat(file)
    if change == "data":
        file.write_text("Z")
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    elif change == "mode":
        file.chmod(0o600)
    elif change == "xattr":
        os.setxattr(file, "user.k", b"v")
    elif change == "target":
        (project.root / "l").unlink()
        (project.root / "l").symlink_to("b")
    else:
        os.rename(project.root / "b", file)
    assert project.key() != first


def test_a_file_written_a_moment_ago_is_not_trusted(project: Project) -> None:
    """It could be written again within the same tick of the kernel's clock, with the same size."""
    settle()
    project.key()
    file = project.root / "a"
    for n in range(50):
        file.write_text(chr(65 + n % 26))
        os.utime(file, ns=(10**18, 10**18))
        project.key()  # compares with a digest taken without any cache


def test_a_fresh_context_is_not_remembered_as_a_whole(project: Project) -> None:
    (project.root / "fresh").write_text("F")
    project.key()
    assert not project.files(".memo")
    settle()
    project.key()
    assert project.files(".memo")


@pytest.mark.parametrize("garbage", [b"", b"rubbish", None, b"short"])
def test_a_damaged_file_is_ignored(project: Project, garbage: bytes | None) -> None:
    settle()
    first = project.key()
    for path in [*project.files(".memo"), *project.files(".bin")]:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if garbage is None else garbage)
    assert project.key() == first
    magic = statcache._MAGIC
    for wrong in ([1, 2], {1: 2}, {"a": 5, b"x": b"y"}, {"a": b"", "b": b"zz"}):
        for path in [*project.files(".memo"), *project.files(".bin")]:
            path.write_bytes(magic + marshal.dumps(wrong))
        assert project.key() == first


def test_another_version_is_ignored(project: Project, reads: list[str]) -> None:
    settle()
    project.key()
    for path in [*project.files(".memo"), *project.files(".bin")]:
        path.write_bytes(path.read_bytes().replace(b"context 1", b"context 0"))
    reads.clear()
    project.key()
    assert "a" in reads


def test_a_store_that_cannot_be_written_costs_nothing_but_time(project: Project) -> None:
    settle()
    project.store.write_text("no directory")
    project.key()
    project.key()


def test_selections_share_what_is_known_of_files(project: Project, reads: list[str]) -> None:
    settle()
    project.key(".")
    reads.clear()
    action = Copy(1, ("a", "d"), "/x/")
    copy_content_key(action, DirTree(str(project.root)), project.cache())
    assert reads == []


def test_the_memo_keeps_the_newest(project: Project) -> None:
    cache = project.cache()
    for n in range(100):
        cache.remember(b"%d" % n, Digest("sha256:" + f"{n:064x}"))
    assert cache.recall(b"99") == "sha256:" + f"{99:064x}"
    assert cache.recall(b"0") is None
    assert project.cache().recall(b"99") is not None
    assert project.files(".memo")[0].stat().st_size < 20_000


def test_rows_of_files_that_are_gone_are_dropped(project: Project) -> None:
    cache = project.cache()
    cache.learn({f"old/{n}": b"x" * 68 for n in range(6000)}, set())
    cache.learn({"new": b"y" * 68}, {"new"})
    assert list(project.cache().table()) == ["new"]


def test_threads_share_one_cache(project: Project) -> None:
    settle()
    cache = project.cache()
    found: list[Digest] = []
    sources = [("a",), ("b",), ("d",), (".",)] * 4

    def work(names: tuple[str, ...]) -> None:
        found.append(project.key(*names, cache=cache))

    threads = [threading.Thread(target=work, args=(names,)) for names in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(sources)
    assert not [p for p in (project.store / "contexts").iterdir() if p.suffix not in (".memo", ".bin")]


def test_directories_do_not_share(tmp_path: Path) -> None:
    one = StatCache.of_directory(str(tmp_path), str(tmp_path / "a"))
    other = StatCache.of_directory(str(tmp_path), str(tmp_path / "b"))
    one.remember(b"s", Digest("sha256:" + "0" * 64))
    assert other.recall(b"s") is None
