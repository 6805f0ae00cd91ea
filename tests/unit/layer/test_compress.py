from __future__ import annotations

import gzip
import io
import os
from hashlib import sha256

import pytest
import zstandard

from buildkit_py.errors import ImageError, StoreError, UsageError
from buildkit_py.layer.compress import Method, Write, compress_layer, decompressor

DATA = os.urandom(3_000_000) + b"text " * 1_000_000


def produce(write: Write) -> None:
    for start in range(0, len(DATA), 1 << 20):
        write(DATA[start : start + (1 << 20)])


def digest(data: bytes) -> str:
    return "sha256:" + sha256(data).hexdigest()


@pytest.mark.parametrize("method", ["none", "gzip", "zstd"])
def test_both_digests_and_sizes(method: Method) -> None:
    out: list[bytes] = []
    result = compress_layer(produce, out.append, method)
    packed = b"".join(out)
    assert result == (digest(DATA), digest(packed), len(packed), len(DATA))
    stream = decompressor(io.BytesIO(packed))
    assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == DATA


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_deterministic(method: Method) -> None:
    assert compress_layer(produce, len, method) == compress_layer(produce, len, method)


@pytest.mark.parametrize("level", [1, 6, 9])
def test_gzip_levels_are_zlibs(level: int) -> None:
    out: list[bytes] = []
    compress_layer(produce, out.append, "gzip", level=level)
    packed = b"".join(out)
    assert gzip.decompress(packed) == DATA
    assert packed[4:8] == bytes(4)


def test_zstd_is_read_by_the_library() -> None:
    out: list[bytes] = []
    compress_layer(produce, out.append, "zstd", level=5)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(b"".join(out)) == DATA


def test_known_diff_id_is_taken() -> None:
    from buildkit_py.digest import DiffID

    known = DiffID(digest(DATA))
    assert compress_layer(produce, len, "gzip", diff_id=known).diff_id == known


@pytest.mark.parametrize(("method", "level"), [("gzip", 10), ("gzip", -1), ("zstd", -1), ("zstd", 99)])
def test_levels_that_there_are_not(method: Method, level: int) -> None:
    with pytest.raises(UsageError, match="level"):
        compress_layer(produce, len, method, level=level)


def test_error_of_the_sink() -> None:
    def full(data: bytes) -> None:
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="full"):
        compress_layer(produce, full)


def test_error_of_the_producer() -> None:
    def broken(write: Write) -> None:
        write(b"x")
        raise StoreError("a file changed")

    with pytest.raises(StoreError, match="changed"):
        compress_layer(broken, len)


def test_nothing_at_all() -> None:
    result = compress_layer(lambda write: None, len, "gzip")
    assert result.diff_id == digest(b"") and result.uncompressed == 0


def test_media_types() -> None:
    packed = gzip.compress(b"x")
    for media_type in (
        "",
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ):
        assert decompressor(io.BytesIO(packed), media_type).read(10) == b"x"
    with pytest.raises(ImageError):
        decompressor(io.BytesIO(packed), "application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
