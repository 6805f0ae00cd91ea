"""The directory backend: what it writes, reads, keeps and refuses."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit_py.cache import shared
from buildkit_py.cache.backends import Write
from buildkit_py.cache.backends.local import LocalBackend
from buildkit_py.cache.shared import SharedIndex, SharedLayer, SharedResult
from buildkit_py.digest import DiffID, of_bytes
from buildkit_py.errors import ImageError, NotFoundError, StoreError
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import media


def blob_of(data: bytes) -> LayerBlob:
    return LayerBlob(media.OCI_LAYER, of_bytes(data), len(data))


def making(data: bytes) -> Callable[[Write], LayerBlob]:
    def make(write: Write) -> LayerBlob:
        write(data[:3])
        write(data[3:])
        return blob_of(data)

    return make


def fill(backend: LocalBackend, data: bytes) -> SharedIndex:
    """A cache of one result of one layer, written."""
    blob = backend.write_blob(making(data))
    layer = SharedLayer(DiffID(blob.digest), blob)
    index = SharedIndex([SharedResult(of_bytes(b"key"), (), (layer,), 1.0)])
    backend.write_index(*shared.encode(index))
    backend.close()
    return index


def test_there_and_back(tmp_path: Path) -> None:
    place = str(tmp_path / "a" / "cache")
    assert LocalBackend(place).read_index() is None
    index = fill(LocalBackend(place), b"layer")
    reader = LocalBackend(place)
    read = reader.read_index()
    assert read is not None and read.results == index.results
    assert LocalBackend(place, "other").read_index() is None
    assert reader.has(blob_of(b"layer")) and not reader.has(blob_of(b"other"))
    reader.close()
    assert b"".join(reader.read_blob(blob_of(b"layer"))) == b"layer"
    assert json.loads((tmp_path / "a/cache/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    digest = json.loads((tmp_path / "a/cache/index.json").read_text())["manifests"][0]["digest"]
    named = LocalBackend(place, digest=digest).read_index()
    assert named is not None and named.results == index.results


def test_an_export_removes_what_nothing_names(tmp_path: Path) -> None:
    fill(LocalBackend(str(tmp_path)), b"old")
    fill(LocalBackend(str(tmp_path), "kept"), b"kept")
    fill(LocalBackend(str(tmp_path)), b"new")
    reader = LocalBackend(str(tmp_path))
    there = {data for data in (b"old", b"kept", b"new") if reader.has(blob_of(data))}
    reader.close()
    assert there == {b"kept", b"new"}


def test_an_export_spares_what_another_one_relies_on(tmp_path: Path) -> None:
    fill(LocalBackend(str(tmp_path)), b"old")
    other = os.open(tmp_path / "blobs" / "sha256", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    fill(LocalBackend(str(tmp_path)), b"new")
    os.close(other)
    assert (tmp_path / "blobs" / "sha256" / of_bytes(b"old")[7:]).exists()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def make(write: Write) -> LayerBlob:
        write(b"half")
        raise NotFoundError("no more")

    backend = LocalBackend(str(tmp_path))
    with pytest.raises(NotFoundError):
        backend.write_blob(make)
    assert os.listdir(tmp_path / "blobs" / "sha256") == []
    backend.write_index(*shared.encode(SharedIndex()))
    backend.close()


@pytest.mark.parametrize("data", [b"damaged!", b"short", b"much longer than it should be"])
def test_a_damaged_blob_is_no_blob(tmp_path: Path, data: bytes) -> None:
    fill(LocalBackend(str(tmp_path)), b"the blob")
    (tmp_path / "blobs" / "sha256" / of_bytes(b"the blob")[7:]).write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        list(LocalBackend(str(tmp_path)).read_blob(blob_of(b"the blob")))


def test_odd_files_are_not_waited_for(tmp_path: Path) -> None:
    fill(LocalBackend(str(tmp_path)), b"blob")
    blob = tmp_path / "blobs" / "sha256" / of_bytes(b"blob")[7:]
    blob.unlink()
    os.mkfifo(blob)
    reader = LocalBackend(str(tmp_path))
    assert not reader.has(blob_of(b"blob"))
    reader.close()
    with pytest.raises(StoreError):
        list(reader.read_blob(blob_of(b"blob")))
    blob.unlink()
    blob.symlink_to("/etc/hostname")
    with pytest.raises(StoreError):
        list(reader.read_blob(blob_of(b"blob")))
    with pytest.raises(NotFoundError):
        list(reader.read_blob(blob_of(b"no")))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schemaVersion": 2, "manifests": [{"digest": 1}]}'])
def test_a_bad_table_of_contents(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ImageError):
        LocalBackend(str(tmp_path)).read_index()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the cache"):
        LocalBackend(str(tmp_path / "file" / "x")).write_blob(making(b"x"))
