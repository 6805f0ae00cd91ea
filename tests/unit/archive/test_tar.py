"""What the writer writes is read alike by tarfile, by GNU tar and by our own reader."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import EMPTY, TarWriter
from buildkit_py.archive.untar import TarReader
from buildkit_py.errors import StoreError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0")
    | st.sampled_from([chr(0xDC80 + byte) for byte in range(0x80)]),
    min_size=1,
    max_size=120,
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TIMES = st.integers(-(2**40), 2**63).map(lambda ns: ns)
IDS = st.integers(0, 2**32 - 2)
XATTRS = st.dictionaries(
    st.text("abcdefghijklmnopqrstuvwxyz.", min_size=1, max_size=20).map("user.".__add__),
    st.binary(max_size=300),
    max_size=3,
)


def common(kind: bytes, **more: st.SearchStrategy[object]) -> dict[str, Any]:
    # All fields: hypothesis would make up those with a default.
    return {
        "size": st.just(0),
        "target": st.just(""),
        "rdev": st.just(0),
        "path": PATHS,
        "kind": st.just(kind),
        "mode": st.integers(0, 0o7777),
        "uid": IDS,
        "gid": IDS,
        "mtime": TIMES,
        "xattrs": XATTRS,
        **more,
    }


def members() -> st.SearchStrategy[Member]:
    device = st.builds(os.makedev, st.integers(0, 4095), st.integers(0, 2**20 - 1))
    return st.one_of(
        st.builds(Member, **common(kinds.REGULAR)),
        st.builds(Member, **common(kinds.DIRECTORY)),
        st.builds(Member, **common(kinds.FIFO)),
        st.builds(Member, **common(kinds.SYMLINK, target=PATHS)),
        st.builds(Member, **common(kinds.HARD_LINK, target=PATHS)),
        st.builds(Member, **common(kinds.CHARACTER, rdev=device)),
        st.builds(Member, **common(kinds.BLOCK, rdev=device)),
    )


def archive(*entries: tuple[Member, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for member, data in entries:
        if member.kind == kinds.REGULAR:
            writer.add_bytes(member, data)
        else:
            writer.add(member)
    writer.close()
    return out.getvalue()


@given(st.lists(st.tuples(members(), st.binary(max_size=2000)), max_size=5))
def test_reader_gives_back_what_was_written(entries: list[tuple[Member, bytes]]) -> None:
    reader = TarReader(io.BytesIO(archive(*entries)).read)
    for member, data in entries:
        found = reader.next()
        assert found is not None
        if member.kind == kinds.REGULAR:
            member = member._replace(size=len(data))
            assert reader.read() == data
        assert found == member
    assert reader.next() is None


@given(members(), st.binary(max_size=2000))
def test_tarfile_reads_the_same(member: Member, data: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive((member, data)))) as tar:
        (info,) = tar.getmembers()
        assert os.fsencode(info.name) == os.fsencode(member.path)
        assert (info.type, info.mode, info.uid, info.gid) == (
            member.kind,
            member.mode,
            member.uid,
            member.gid,
        )
        assert abs(info.mtime - member.mtime / 1e9) < 1e-3 + abs(member.mtime) / 1e18
        assert info.uname == info.gname == ""
        if member.kind == kinds.REGULAR:
            file = tar.extractfile(info)
            assert file is not None and file.read() == data
        if member.target:
            assert os.fsencode(info.linkname) == os.fsencode(member.target)
        if member.rdev:
            assert os.makedev(info.devmajor, info.devminor) == member.rdev


@pytest.mark.parametrize("length", [1, 99, 100, 101, 155, 156, 200, 255, 256, 257, 600])
@pytest.mark.parametrize("kind", [kinds.REGULAR, kinds.DIRECTORY])
@pytest.mark.parametrize("step", [7, 90, 100, 120])
def test_name_of_every_length(length: int, kind: bytes, step: int) -> None:
    path = "/".join(["n" * step] * (length // step + 1))[:length].rstrip("/")
    data = archive((Member(path, kind), b"data"))
    found = TarReader(io.BytesIO(data).read).next()
    assert found is not None and found.path == path
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [path]


def test_gnu_tar_reads_the_same(tmp_path: Path) -> None:
    wanted = [
        Member("d", kinds.DIRECTORY, 0o750, mtime=1_600_000_000_123_456_789),
        Member("d/file", mtime=1_700_000_000_000_000_001, mode=0o640),
        Member("d/" + "long" * 60, mtime=1_700_000_000_500_000_000),
        Member("d/ümlaut", mtime=-1_500_000_000),
        Member("d/raw\udcff", mtime=0),
        Member("d/link", kinds.SYMLINK, 0o777, target="x" * 150),
        Member("d/hard", kinds.HARD_LINK, 0o640, target="d/file"),
    ]
    data = archive(*[(member, member.path.encode("utf-8", "surrogateescape")) for member in wanted])
    subprocess.run(["tar", "-C", tmp_path, "-xpf", "-"], input=data, check=True)
    for member in wanted:
        host = os.path.join(tmp_path, member.path)
        st = os.lstat(host)
        if member.kind == kinds.HARD_LINK:
            assert st.st_ino == os.lstat(tmp_path / member.target).st_ino
            continue
        if member.kind == kinds.REGULAR:
            assert Path(host).read_bytes() == os.fsencode(member.path)
        if member.kind == kinds.SYMLINK:
            assert os.readlink(host) == member.target
        else:
            assert st.st_mode & 0o7777 == member.mode
            assert st.st_mtime_ns == member.mtime


def test_sizes_and_ids_that_ustar_cannot_hold() -> None:
    from buildkit_py.archive.tar import encode

    header = encode(Member("big", size=20 << 30, uid=1 << 31, gid=1 << 30))
    found = TarReader(io.BytesIO(header).read).next()
    assert found is not None
    assert (found.size, found.uid, found.gid) == (20 << 30, 1 << 31, 1 << 30)
    with tarfile.open(fileobj=io.BytesIO(header)) as tar:
        info = tar.next()
    assert info is not None and (info.size, info.uid, info.gid) == (20 << 30, 1 << 31, 1 << 30)


def test_empty_archive_is_two_blocks_of_zeros() -> None:
    assert archive() == EMPTY == bytes(1024)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_file_of_every_size(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    out = io.BytesIO()
    writer = TarWriter(out.write)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    writer.add_file(Member("f", size=size), fd)
    os.close(fd)
    writer.add(Member("after", kinds.DIRECTORY))
    writer.close()
    assert len(out.getvalue()) % 512 == 0
    reader = TarReader(io.BytesIO(out.getvalue()).read)
    found = reader.next()
    assert found is not None and found.size == size
    assert reader.read() == data
    after = reader.next()
    assert after is not None and after.path == "after"


@pytest.mark.parametrize("stated", [5, 9, 2_000_000])
@pytest.mark.parametrize("real", [7, 1_500_000])
def test_file_that_changed_meanwhile_is_an_error(tmp_path: Path, stated: int, real: int) -> None:
    (tmp_path / "f").write_bytes(bytes(real))
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        with pytest.raises(StoreError, match="changed while it was read"):
            TarWriter(lambda data: None).add_file(Member("f", size=stated), fd)
    finally:
        os.close(fd)


def test_same_members_give_the_same_bytes() -> None:
    one = Member("a", xattrs={"user.b": b"1", "user.a": b"2"}, mtime=5)
    other = Member("a", xattrs={"user.a": b"2", "user.b": b"1"}, mtime=5)
    assert archive((one, b"x")) == archive((other, b"x"))
