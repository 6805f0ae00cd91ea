"""The reader takes every dialect and breaks on nothing but ImageError."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import TarWriter, encode
from buildkit_py.archive.untar import TarReader
from buildkit_py.errors import ImageError


def read(data: bytes) -> list[tuple[Member, bytes]]:
    reader = TarReader(io.BytesIO(data).read)
    return [(member, reader.read()) for member in reader]


def made_by_tarfile(format: int, *infos: tarfile.TarInfo, **options: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, **options) as tar:  # type: ignore[call-overload]
        for info in infos:
            tar.addfile(info, io.BytesIO(b"d" * info.size))
    return out.getvalue()


def info(name: str, size: int = 0, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for key, value in more.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_dialects_of_tarfile(format: int) -> None:
    found = read(
        made_by_tarfile(
            format,
            info("n" * 300, 1000, uid=1 << 30, mtime=1.5 if format == tarfile.PAX_FORMAT else 1),
            info("dir", type=tarfile.DIRTYPE, mode=0o700),
            info("l", type=tarfile.SYMTYPE, linkname="t" * 200),
            info("dev", type=tarfile.CHRTYPE, devmajor=5, devminor=1),
        )
    )
    assert [member.path for member, _ in found] == ["n" * 300, "dir", "l", "dev"]
    assert found[0][1] == b"d" * 1000
    assert found[0][0].uid == 1 << 30
    assert found[2][0].target == "t" * 200
    assert found[3][0].rdev == os.makedev(5, 1)


def test_global_header_holds_until_it_is_overridden() -> None:
    data = made_by_tarfile(
        tarfile.PAX_FORMAT, info("a"), info("b", pax_headers={"mtime": "7"}), pax_headers={"mtime": "5"}
    )
    assert [member.mtime for member, _ in read(data)] == [5 * 10**9, 7 * 10**9]


@pytest.mark.parametrize("format", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_dialects_of_gnu_tar(tmp_path: Path, format: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"hello")
    os.symlink("f", tmp_path / "d" / "l")
    os.link(tmp_path / "d" / "f", tmp_path / "d" / "m")
    data = subprocess.run(
        ["tar", "-C", tmp_path, "-cf", "-", f"--format={format}", "--sort=name", "d"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    found = read(data)
    assert [(member.path, member.kind) for member, _ in found] == [
        ("d", kinds.DIRECTORY),
        ("d/f", kinds.REGULAR),
        ("d/l", kinds.SYMLINK),
        ("d/m", kinds.HARD_LINK),
    ]
    assert found[1][1] == b"hello"


SPARSE = ("gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0")


def holes(path: Path, parts: dict[int, bytes], size: int) -> bytes:
    """What a new file holds whose parts are written at these places."""
    with path.open("wb") as file:
        for place, data in parts.items():
            file.seek(place)
            file.write(data)
        file.truncate(size)
    return path.read_bytes()


def by_tar(folder: Path, format: str, *names: str) -> bytes:
    command: list[str | Path] = ["tar", "-C", folder, "-cSf", "-", *f"--format={format}".split(), *names]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("format", SPARSE)
def test_sparse_files(tmp_path: Path, format: str) -> None:
    wanted = {
        "one": holes(tmp_path / "one", {5 << 20: b"x" * 5000}, 10 << 20),
        "none": holes(tmp_path / "none", {}, 1 << 20),
        "many": holes(tmp_path / "many", {n << 16: bytes([n + 1]) * 4096 for n in range(100)}, 100 << 16),
        "small": holes(tmp_path / "small", {0: b"small"}, 5),
    }
    data = by_tar(tmp_path, format, *wanted)
    assert {member.path: content for member, content in read(data)} == wanted
    reader = TarReader(io.BytesIO(data).read)
    for member in reader:
        with (tmp_path / "copy").open("wb") as copy:
            reader.copy(copy.fileno())
        assert (tmp_path / "copy").read_bytes() == wanted[member.path], member.path
        assert member.size == len(wanted[member.path])
        few = reader.read(10)
        assert few == b""
    assert os.stat(tmp_path / "copy").st_size == 5
    # What is not read is passed over.
    assert [member.path for member in TarReader(io.BytesIO(data).read)] == list(wanted)


@pytest.mark.parametrize("format", SPARSE)
def test_damaged_sparse_files(tmp_path: Path, format: str) -> None:
    holes(tmp_path / "s", {n << 16: b"x" * 4096 for n in range(30)}, 30 << 16)
    data = bytearray(by_tar(tmp_path, format, "s"))
    for place in range(0, 4096, 3):
        damaged = bytearray(data)
        damaged[place] ^= 1
        for start in range(0, 2048, 512):
            block = damaged[start : start + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                damaged[start + 148 : start + 156] = b"%06o\0 " % sum(block)
        try:
            for member in (reader := TarReader(io.BytesIO(bytes(damaged)).read)):
                assert len(reader.read(1 << 21)) <= member.size
        except ImageError:
            pass


def test_a_sparse_file_that_would_fill_everything(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    os.truncate(tmp_path / "s", 2 << 40)
    with pytest.raises(ImageError, match="are allowed"):
        read(by_tar(tmp_path, "posix", "s"))


def small() -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    writer.add(Member("d", kinds.DIRECTORY, mtime=1_500_000_000))
    writer.add_bytes(Member("d/f", xattrs={"user.a": b"\0\n"}), b"x" * 700)
    writer.close()
    return out.getvalue()


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 4096])
def test_any_size_of_chunks(step: int) -> None:
    stream = io.BytesIO(small())
    reader = TarReader(lambda size: stream.read(step))
    assert [member.path for member in reader] == ["d", "d/f"]


def test_cut_off_anywhere_is_told() -> None:
    data = small()
    whole = read(data)
    for end in range(len(data) - 1024):
        try:
            found = read(data[:end])
        except ImageError:
            continue
        # Between two members a stream may end: old programs write no end mark.
        assert found == whole[: len(found)]
        assert end % 512 == 0


@given(st.data())
def test_any_bytes_give_members_or_an_image_error(data: st.DataObject) -> None:
    raw = bytearray(small())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    fixed = data.draw(st.booleans())
    if fixed:
        for start in range(0, len(raw), 512):
            block = raw[start : start + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                raw[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    try:
        read(bytes(raw))
    except ImageError:
        pass


def forged(**fields: bytes) -> bytes:
    """A header whose named fields hold these bytes, with a right checksum."""
    places = {
        "name": 0,
        "mode": 100,
        "uid": 108,
        "gid": 116,
        "size": 124,
        "mtime": 136,
        "kind": 156,
        "major": 329,
    }
    block = bytearray(encode(Member("f")))
    for name, value in fields.items():
        block[places[name] : places[name] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "block",
    [
        forged(size=b"-0000000001\0"),
        forged(size=b"0o000000001\0"),
        forged(size=b"0_000000001\0"),
        forged(size=b"99999999999\0"),
        forged(size=b"\xff" + b"\xff" * 11),
        forged(uid=b"\xff" * 8),
        forged(uid=b"\x80\0\0\xff\xff\xff\xff\xff"),
        forged(mode=b"garbage\0"),
        forged(name=b"\0"),
        forged(kind=b"Z"),
        forged(kind=b"M"),
        forged(kind=b"S", size=b"00000000001\0"),
        forged(kind=b"x", size=b"77777777777\0"),
        forged(kind=b"L", size=b"77777777777\0"),
        forged(kind=b"x", size=b"00000000010\0") + b"9 path=x".ljust(512, b"\0"),
        forged(kind=b"x", size=b"00000000012\0") + b"99 path=x\n".ljust(512, b"\0"),
        forged(kind=b"x", size=b"00000000012\0") + b"10 path=\0\n".ljust(512, b"\0") + forged(),
        forged(kind=b"x", size=b"00000000014\0") + b"12 size=-10\n".ljust(512, b"\0") + forged(),
        forged(kind=b"x", size=b"00000000014\0") + b"12 mtime=nan\n".ljust(512, b"\0") + forged(),
        forged(kind=b"3", major=b"\x80\xff\xff\xff\xff\xff\xff\xff"),
        b"\x7fELF" + bytes(508),
    ],
)
def test_hostile_headers_are_refused(block: bytes) -> None:
    with pytest.raises(ImageError):
        read(block + bytes(1024))


def test_signed_checksums_of_ancient_programs() -> None:
    block = bytearray(encode(Member("f")))
    block[0:3] = b"\xe4\xf6\xfc"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in block)
    assert read(bytes(block))[0][0].path == "\udce4\udcf6\udcfc"


def test_data_of_links_and_directories_is_no_data() -> None:
    # As tarfile and Go do: a size in such a header says nothing about what follows.
    block = forged(kind=b"5", size=b"00000001000\0")
    assert [member.path for member, _ in read(block + encode(Member("next")))] == ["f", "next"]
