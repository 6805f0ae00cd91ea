from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from buildkit_py.content.store import ContentStore
from buildkit_py.digest import Digest, of_bytes
from buildkit_py.errors import NotFoundError, StoreError

MISSING = of_bytes(b"nowhere")


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path))


def test_what_is_written_is_read(store: ContentStore) -> None:
    digest = store.write(b"hello")
    assert digest == of_bytes(b"hello")
    assert store.has(digest) and store.size(digest) == 5
    assert store.read(digest) == b"hello"
    assert list(store.digests()) == [digest]


def test_nothing_is_made_before_the_first_write(store: ContentStore, tmp_path: Path) -> None:
    assert list(store.digests()) == [] and not store.has(MISSING)
    assert store.sweep(0.0) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_missing_blob(store: ContentStore) -> None:
    for ask in (store.read, store.size, store.open):
        with pytest.raises(NotFoundError):
            ask(MISSING)
    assert store.delete(MISSING) == 0


@pytest.mark.parametrize("bad", ["", "sha256:", "sha256:../../x", "sha512:" + 64 * "a", "sha256:" + 64 * "G"])
def test_a_malformed_digest_is_no_path(store: ContentStore, bad: str) -> None:
    with pytest.raises(StoreError):
        store.path(Digest(bad))


def test_a_writer_that_is_left_leaves_nothing(store: ContentStore, tmp_path: Path) -> None:
    with store.writer() as writer:
        writer.write(b"half")
    assert list((tmp_path / "staging").iterdir()) == []
    assert list(store.digests()) == []


def test_a_writer_verifies(store: ContentStore, tmp_path: Path) -> None:
    with store.writer() as writer:
        writer.write(b"one")
        with pytest.raises(StoreError, match="not sha256:"):
            writer.commit(MISSING)
    assert not store.has(MISSING) and list((tmp_path / "staging").iterdir()) == []


def test_a_writer_that_does_not_hash_takes_the_callers_word(store: ContentStore) -> None:
    with store.writer(hashing=False) as writer:
        writer.write(b"data")
        assert writer.commit(of_bytes(b"data")) == of_bytes(b"data")
    assert store.read(of_bytes(b"data")) == b"data"


def test_a_growing_blob_is_read_behind_its_writer(store: ContentStore) -> None:
    with store.writer() as writer:
        writer.write(b"abc")
        fd = writer.reader()
        try:
            assert os.pread(fd, 10, 0) == b"abc"
            writer.write(b"def")
            writer.commit()
            assert os.pread(fd, 10, 3) == b"def"
        finally:
            os.close(fd)


def test_a_damaged_blob_counts_as_missing(store: ContentStore) -> None:
    digest = store.write(b"hello")
    Path(store.path(digest)).write_bytes(b"hellO")
    with pytest.raises(NotFoundError, match="damaged"):
        store.read(digest)
    assert not store.has(digest)
    store.write(b"hello")
    assert store.read(digest) == b"hello"


def test_writing_again_mends_a_blob_that_is_too_short(store: ContentStore) -> None:
    digest = store.write(b"hello")
    Path(store.path(digest)).write_bytes(b"")
    store.write(b"hello")
    assert store.read(digest) == b"hello"


def test_a_full_disk_says_what_to_do(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        store.write(b"data")
    assert "pybuild prune" in caught.value.hint and "PYBUILD_ROOT" in caught.value.hint


def test_a_store_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, flags: int, mode: int = 0) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    store = ContentStore(str(tmp_path))
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StoreError, match="Permission denied") as caught:
        store.writer()
    assert caught.value.hint


def test_many_writers_of_one_blob(store: ContentStore) -> None:
    data = os.urandom(300_000)
    threads = [threading.Thread(target=store.write, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(store.digests()) == [of_bytes(data)]
    assert store.read(of_bytes(data)) == data


def test_sweep_takes_only_what_is_old(store: ContentStore, tmp_path: Path) -> None:
    fd, path = store.stage()
    os.write(fd, b"12345")
    os.close(fd)
    now = os.stat(path).st_mtime
    assert store.sweep(now + 60) == 0 and os.path.exists(path)
    assert store.sweep(now + 2 * 86400) == 5 and not os.path.exists(path)
