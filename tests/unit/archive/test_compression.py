from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable

import pytest
import zstandard

from buildkit_py.archive.compression import Compression, decompressed, detect, is_tar, open_archive
from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import EMPTY, TarWriter
from buildkit_py.archive.untar import TarReader
from buildkit_py.errors import ImageError

DATA = os.urandom(200_000) + b"x" * 3_000_000 + os.urandom(100)
Compress = Callable[[bytes], bytes]
FORMATS: list[tuple[Compression, Compress]] = [
    ("gzip", gzip.compress),
    ("bzip2", bz2.compress),
    ("xz", lzma.compress),
    ("zstd", lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data)),
]
each_format = pytest.mark.parametrize(("name", "compress"), FORMATS, ids=[name for name, _ in FORMATS])


class Dribble:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def everything(data: bytes, name: Compression, step: int = 1 << 30) -> bytes:
    stream = decompressed(Dribble(data, step), name)
    return b"".join(iter(lambda: stream.read(1 << 20), b""))


@each_format
def test_told_by_magic_and_read(name: Compression, compress: Compress) -> None:
    packed = compress(DATA)
    assert detect(packed) == name
    assert everything(packed, name) == DATA


@each_format
def test_several_members(name: Compression, compress: Compress) -> None:
    packed = compress(DATA) + compress(b"") + compress(b"end")
    assert everything(packed, name) == DATA + b"end"


@each_format
def test_bytes_that_come_in_drops(name: Compression, compress: Compress) -> None:
    assert everything(compress(b"hello" * 1000) * 2, name, step=3) == b"hello" * 2000


@each_format
def test_damage_is_an_image_error(name: Compression, compress: Compress) -> None:
    packed = compress(DATA)
    with pytest.raises(ImageError):
        everything(packed[:1000] + bytes(8) + packed[1008:], name)
    with pytest.raises(ImageError):
        everything(packed + b"garbage", name)


@pytest.mark.parametrize(("name", "compress"), FORMATS[:3])
def test_cut_off_is_an_image_error(name: Compression, compress: Compress) -> None:
    packed = compress(DATA)
    for end in (10, len(packed) // 2, len(packed) - 2):
        with pytest.raises(ImageError):
            everything(packed[:end], name)


def test_padding_after_gzip() -> None:
    assert everything(gzip.compress(DATA) + bytes(10_000), "gzip") == DATA


@each_format
def test_a_bomb_comes_in_small_pieces(name: Compression, compress: Compress) -> None:
    stream = decompressed(io.BytesIO(compress(bytes(50 << 20))), name)
    total = 0
    while piece := stream.read(1 << 20):
        assert len(piece) <= 1 << 20
        total += len(piece)
    assert total == 50 << 20


def test_skippable_zstd_frame() -> None:
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert detect(skippable) == "zstd"
    assert everything(skippable + zstandard.compress(b"data"), "zstd") == b"data"


@each_format
def test_archives_are_recognised_by_content(name: Compression, compress: Compress) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    writer.add_bytes(Member("f"), b"x" * 5000)
    writer.close()
    tar = open_archive(io.BytesIO(compress(out.getvalue())))
    assert tar is not None
    assert [member.path for member in TarReader(tar.read)] == ["f"]
    assert open_archive(io.BytesIO(compress(b"no archive" * 100))) is None


def test_what_is_no_archive() -> None:
    assert open_archive(io.BytesIO(b"")) is None
    assert open_archive(io.BytesIO(b"\x1f\x8bno gzip after all")) is None
    assert not is_tar(b"#!/bin/sh\n".ljust(512, b"#"))
    assert is_tar(EMPTY)
