"""A tar as build context: what is unpacked, and that nothing gets out."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from buildkit_py.errors import ImageError
from buildkit_py.linux.identity import Identity, IdRange
from buildkit_py.source import tarcontext
from buildkit_py.source.tarcontext import unpack

ME = Identity("single", (IdRange(0, 0, 1),), (IdRange(0, 0, 1),))


def _tar(*members: tarfile.TarInfo, data: Mapping[str, bytes] | None = None) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            content = (data or {}).get(member.name, b"")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    out.seek(0)
    return out


def _file(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    return _file(name, type=kind, linkname=target)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    return place


def test_unpack(place: Path) -> None:
    members = (
        _file("./", type=tarfile.DIRTYPE, mode=0o755),
        _file("./d/f", uid=7, gid=8, mode=0o4755, mtime=1000),
        _link("./l", "/etc/passwd"),
        _link("./h", "d/f", tarfile.LNKTYPE),
        _file(".wh.d"),
        _file("d/.wh..wh..opq"),
        _file("p", type=tarfile.FIFOTYPE),
    )
    unpack(_tar(*members, data={"./d/f": b"x"}), str(place), ME)
    st = (place / "d/f").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777, st.st_mtime) == (
        os.geteuid(),
        os.getegid(),
        0o4755,
        1000,
    )
    assert st.st_nlink == 2
    assert os.readlink(place / "l") == "/etc/passwd"
    assert sorted(os.listdir(place)) == [".wh.d", "d", "h", "l", "p"]
    assert sorted(os.listdir(place / "d")) == [".wh..wh..opq", "f"]
    assert not [name for name in os.listxattr(place / "d") if "overlay" in name]
    assert stat.S_ISFIFO((place / "p").lstat().st_mode)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "d/..", "x" * 5000])
def test_paths_that_climb(place: Path, name: str) -> None:
    with pytest.raises(ImageError, match="the build context"):
        unpack(_tar(_file(name)), str(place), ME)
    assert os.listdir(place.parent) == ["in"]


def test_absolute_paths_are_inside(place: Path) -> None:
    unpack(_tar(_file("/etc/x")), str(place), ME)
    assert (place / "etc/x").exists()


@pytest.mark.parametrize("target", ["{outside}", "../outside", "/../../../../../..{outside}"])
def test_links_lead_nowhere_else(place: Path, target: str) -> None:
    outside = place.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    link = target.format(outside=outside)
    for bad in (
        (_link("l", link), _file("l/new")),
        (_link("l", link), _link("h", "l/kept", tarfile.LNKTYPE)),
        (_link("l", link + "/kept"), _file("l")),
        (_link("h", f"{outside}/kept", tarfile.LNKTYPE),),
        (_link("h", "../outside/kept", tarfile.LNKTYPE),),
        (_link("l", link), _file("l", type=tarfile.DIRTYPE, mode=0)),
    ):
        try:
            unpack(_tar(*bad, data={"l/new": b"!", "l": b"!"}), str(place), ME)
        except ImageError:
            pass
        assert os.listdir(outside) == ["kept"]
        assert (outside / "kept").read_text() == "kept"
        assert (outside / "kept").stat().st_nlink == 1
        assert outside.stat().st_mode & 0o777 == 0o755


def test_root_that_is_a_file(place: Path) -> None:
    with pytest.raises(ImageError):
        unpack(_tar(_link("./", "x")), str(place), ME)


def test_too_many_members(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarcontext, "_MAX_MEMBERS", 3)
    with pytest.raises(ImageError, match="more than 3 members"):
        unpack(_tar(*[_file("same") for _ in range(4)]), str(place), ME)


@pytest.mark.parametrize("cut", [1, 511, 513, 700])
def test_cut_off(place: Path, cut: int) -> None:
    whole = _tar(_file("f"), data={"f": b"x" * 600}).getvalue()
    with pytest.raises(ImageError):
        unpack(io.BytesIO(whole[:cut]), str(place), ME)
