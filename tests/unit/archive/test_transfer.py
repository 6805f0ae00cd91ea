"""Files as a tar between two places: docker's rules for names, and nothing outside of the destination."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from buildkit_py.archive import transfer
from buildkit_py.archive.transfer import PathError, Source, describe, pack, unpack
from buildkit_py.errors import ImageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    place = tmp_path / "source"
    (place / "sub").mkdir(parents=True)
    (place / "file").write_text("text")
    (place / "file").chmod(0o640)
    os.link(place / "file", place / "twin")
    (place / "link").symlink_to("file")
    (place / "sub" / "empty").touch()
    os.utime(place / "file", (1000, 1000))
    return place


def copy(source: str, target: str, *, follow: bool = False) -> None:
    stream = io.BytesIO()
    pack(source, stream.write, follow=follow)
    stream.seek(0)
    unpack(stream.read, target, describe(source, follow=follow))


def listing(place: Path) -> list[str]:
    return sorted(str(p.relative_to(place)) for p in place.rglob("*"))


ALL = ["file", "link", "sub", "sub/empty", "twin"]


@pytest.mark.parametrize(
    ("named", "target", "where"),
    [
        ("source", "new", "new"),
        ("source", "there", "there/source"),
        ("source/", "there", "there/source"),
        ("source/.", "there", "there"),
        ("source/.", "new", "new"),
        ("source", "there/", "there/source"),
        ("source", "new/", "new"),
    ],
)
def test_directories(source: Path, tmp_path: Path, named: str, target: str, where: str) -> None:
    (tmp_path / "there").mkdir()
    copy(f"{tmp_path}/{named}", f"{tmp_path}/{target}")
    made = tmp_path / where
    assert listing(made) == ALL
    assert (made / "file").read_text() == "text"
    assert (made / "file").stat().st_mode & 0o777 == 0o640
    assert (made / "file").stat().st_mtime == 1000
    assert (made / "file").stat().st_ino == (made / "twin").stat().st_ino
    assert os.readlink(made / "link") == "file"


@pytest.mark.parametrize(
    ("target", "where"), [("new", "new"), ("there", "there/file"), ("old", "old"), ("there/x", "there/x")]
)
def test_files(source: Path, tmp_path: Path, target: str, where: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "old").write_text("something longer")
    copy(f"{source}/file", f"{tmp_path}/{target}")
    assert (tmp_path / where).read_text() == "text"


@pytest.mark.parametrize(
    ("named", "target", "words"),
    [
        ("none", "new", "No such file"),
        ("source/file/", "new", "ot a directory"),
        ("source", "old", "onto a file"),
        ("source/file", "none/x", "no such directory"),
        ("source/file", "none/", "no such directory"),
    ],
)
def test_what_cant_be(source: Path, tmp_path: Path, named: str, target: str, words: str) -> None:
    (tmp_path / "old").touch()
    with pytest.raises(PathError, match=words):
        copy(f"{tmp_path}/{named}", f"{tmp_path}/{target}")


def test_links_that_are_named(source: Path, tmp_path: Path) -> None:
    copy(f"{source}/link", f"{tmp_path}/as-link")
    assert os.readlink(tmp_path / "as-link") == "file"
    copy(f"{source}/link", f"{tmp_path}/as-file", follow=True)
    assert (tmp_path / "as-file").read_text() == "text"
    (tmp_path / "folder").symlink_to(source)
    copy(f"{tmp_path}/folder/.", f"{tmp_path}/new")
    assert listing(tmp_path / "new") == ALL


def hostile(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    stream.seek(0)
    return stream


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def test_links_in_the_archive_lead_nowhere(tmp_path: Path) -> None:
    outside, place = tmp_path / "outside", tmp_path / "place"
    outside.mkdir()
    place.mkdir()
    stream = hostile(
        (entry("x/out", tarfile.SYMTYPE, str(outside)), b""),
        (entry("x/out/file"), b"hostile"),
        (entry("x/abs", tarfile.SYMTYPE, str(outside / "made")), b""),
        (entry("x/abs"), b"hostile"),
    )
    unpack(stream.read, str(place), Source("x", True))
    assert listing(outside) == []
    assert (place / "x" / "out" / "file").read_text() == "hostile"


@pytest.mark.parametrize("name", ["x/../../file", "../file", "x/.."])
def test_dots_in_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(ImageError, match="outside"):
        unpack(hostile((entry(name), b"x")).read, str(place), Source("x", True))
    assert listing(tmp_path) == ["place"]


def test_a_hard_link_to_the_outside_is_none(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    place = tmp_path / "place"
    place.mkdir()
    (place / "up").symlink_to(tmp_path)
    stream = hostile((entry("x/stolen", tarfile.LNKTYPE, "x/up/secret"), b""))
    with pytest.raises(PathError):
        unpack(stream.read, str(place), Source("x", True, contents=True))
    assert not (place / "stolen").exists()


def test_links_in_the_destination_are_replaced(source: Path, tmp_path: Path) -> None:
    outside, place = tmp_path / "outside", tmp_path / "place"
    outside.mkdir()
    (outside / "victim").write_text("kept")
    place.mkdir()
    (place / "sub").symlink_to(outside)
    (place / "file").symlink_to(outside / "victim")
    copy(f"{source}/.", str(place))
    assert listing(outside) == ["victim"]
    assert (outside / "victim").read_text() == "kept"
    assert not (place / "sub").is_symlink()


def test_set_id_bits_and_devices_stay_out(tmp_path: Path) -> None:
    setuid = entry("x/setuid")
    setuid.mode = 0o4755
    device = entry("x/device", tarfile.BLKTYPE)
    unpack(hostile((setuid, b"x"), (device, b"")).read, str(tmp_path), Source("x", True))
    assert (tmp_path / "x" / "setuid").stat().st_mode & 0o7777 == 0o755
    assert not (tmp_path / "x" / "device").exists()


def test_an_archive_of_any_form_goes_into_a_directory(tmp_path: Path) -> None:
    stream = hostile((entry("a/b"), b"1"), (entry("./c"), b"2"), (entry("/d"), b"3"))
    unpack(stream.read, str(tmp_path), Source())
    assert listing(tmp_path) == ["a", "a/b", "c", "d"]
    with pytest.raises(PathError, match="no such directory"):
        unpack(hostile().read, str(tmp_path / "none"), Source())


def test_a_directory_that_becomes_a_link_while_it_is_read_leads_nowhere(tmp_path: Path) -> None:
    secret, place = tmp_path / "secret", tmp_path / "place"
    secret.mkdir()
    (secret / "key").write_text("secret")
    (place / "a").mkdir(parents=True)
    (place / "a" / "file").write_text("own")
    (place / "b").write_bytes(bytes(2 << 20))
    stream = io.BytesIO()

    def write(data: bytes) -> None:
        """Called first when the directory ``a`` is known and not yet read."""
        stream.write(data)
        if not (place / "a").is_symlink():
            (place / "a").rename(tmp_path / "away")
            (place / "a").symlink_to(secret)

    pack(str(place), write)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        assert tar.getnames() == ["place", "place/b"]


def test_a_file_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_MAX_UNKNOWN", 1000)
    (tmp_path / "grows").touch()
    read = os.read

    def endless(fd: int, size: int) -> bytes:
        return read(fd, size) or bytes(size)

    monkeypatch.setattr(os, "read", endless)
    with pytest.raises(PathError, match="grows while it is read"):
        pack(str(tmp_path / "grows"), io.BytesIO().write)
