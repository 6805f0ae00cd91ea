"""ADD of local archives: told by content, and never out of the root file system."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from buildkit_py.errors import ImageError, PybuildError
from buildkit_py.llb.ops import Copy, File
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.tree import Tree
from buildkit_py.worker.file import run_file_op
from tests.support.filetree import ROOT, Layer, describe, plant

pytestmark = pytest.mark.needs("root")

Members = list[tuple[str, str]]


def archive(*members: tuple[str, str] | tarfile.TarInfo) -> bytes:
    """Members are (path, content) or a TarInfo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1].encode()))
    return out.getvalue()


def info(path: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = kind
    for name, value in fields.items():
        setattr(member, name, value)
    return member


def link(path: str, target: str) -> tarfile.TarInfo:
    return info(path, tarfile.SYMTYPE, linkname=target, mode=0o777)


def folder(path: str, **fields: object) -> tarfile.TarInfo:
    return info(path, tarfile.DIRTYPE, **{"mode": 0o755, **fields})


class Adder:
    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.context = tmp_path / "context"
        self.context.mkdir()
        (tmp_path / "outside").write_text("outside")
        self.layer = Layer(tmp_path / "new")

    def add(
        self, data: bytes, dest: str = "/x/", base: list[str] | None = None, **options: object
    ) -> list[str]:
        (self.context / "some.file").write_bytes(data)
        tree: Tree = DirTree(str(self.context))
        below = LayerTree([str(plant(self.tmp_path / "base/fs", base))]) if base is not None else None
        action = Copy(1, ("some.file",), dest, **{"unpack": "auto", **options})  # type: ignore[arg-type]
        run_file_op(File((action,)), below, [tree, tree], {}, self.layer, ROOT)
        assert (self.tmp_path / "outside").read_text() == "outside"
        assert sorted(os.listdir(self.tmp_path)) in (
            ["base", "context", "new", "outside"],
            ["context", "new", "outside"],
        )
        merged = LayerTree([self.layer.save(), *(below.layers if below else ())])
        return describe(merged)


@pytest.fixture
def adder(tmp_path: Path) -> Adder:
    return Adder(tmp_path)


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["plain", "gzip", "bzip2", "xz", "zstd"],
)
def test_told_by_content(compress: Callable[[bytes], bytes], adder: Adder) -> None:
    data = compress(archive(("d/a", "A"), ("b", "B")))
    assert adder.add(data) == ["d 755 0:0 x", "f 644 0:0 x/b | B", "d 755 0:0 x/d", "f 644 0:0 x/d/a | A"]


def test_the_destination_is_always_a_directory(adder: Adder) -> None:
    assert adder.add(archive(("a", "A")), "/x") == ["d 755 0:0 x", "f 644 0:0 x/a | A"]


@pytest.mark.parametrize(
    "data", [b"", b"plain text", gzip.compress(b"no tar", mtime=0), b"\x1f\x8bgarbage", b"BZh9"]
)
def test_what_is_no_archive_is_copied(data: bytes, adder: Adder) -> None:
    adder.add(data)
    assert Path(adder.layer.fs, "x/some.file").read_bytes() == data


def test_unpack_false_copies(adder: Adder) -> None:
    data = archive(("a", "A"))
    adder.add(data, unpack="never")
    assert Path(adder.layer.fs, "x/some.file").read_bytes() == data


def test_attributes_are_the_archives(adder: Adder) -> None:
    data = archive(
        folder("d", mode=0o2750, uid=3, gid=4),
        info(
            "d/a", mode=0o4711, uid=5, gid=6, mtime=1_234_567_890.5, pax_headers={"SCHILY.xattr.user.k": "v"}
        ),
        link("l", "d/a"),
        info("h", tarfile.LNKTYPE, linkname="d/a"),
        info("p", tarfile.FIFOTYPE, mode=0o600),
        info("c", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
    )
    assert adder.add(data) == [
        "d 755 0:0 x",
        "c 666 0:0 x/c 1:3",
        "d 2750 3:4 x/d",
        "f 4711 5:6 x/d/a {user.k=v}",
        "h 4711 5:6 x/h {user.k=v} = x/d/a",
        "l 777 0:0 x/l -> d/a",
        "p 600 0:0 x/p",
    ]
    assert os.lstat(adder.layer.fs + "/x/h").st_mtime == 1_234_567_890.5


def test_chown_replaces_owners(adder: Adder) -> None:
    data = archive(info("d/a", uid=5, gid=6), link("l", "d/a"))
    found = adder.add(data, chown="7:8")
    assert found == ["d 755 7:8 x", "d 755 7:8 x/d", "f 644 7:8 x/d/a", "l 777 7:8 x/l -> d/a"]


def test_the_destination_keeps_its_own(adder: Adder) -> None:
    data = archive(folder("./", mode=0o700, uid=9), ("./a", "A"))
    assert adder.add(data, base=["d 711 3:4 x"]) == ["d 711 3:4 x", "f 644 0:0 x/a | A"]


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "x/../../../outside", ".."])
def test_climbing_is_refused(path: str, adder: Adder) -> None:
    with pytest.raises(ImageError, match="leave the destination") as raised:
        adder.add(archive((path, "evil")))
    assert raised.value.message.startswith("some.file: ")


def test_absolute_paths_lie_below_the_destination(adder: Adder) -> None:
    assert adder.add(archive(("/etc/a", "A")))[-1] == "f 644 0:0 x/etc/a | A"


def test_links_of_the_archive_stay_inside(adder: Adder) -> None:
    up = "../" * 30 + str(adder.tmp_path)
    found = adder.add(archive(link("l", up), ("l/a", "A"), link("m", "/srv"), ("m/b", "B")))
    place = str(adder.tmp_path).lstrip("/")
    assert f"f 644 0:0 {place}/a | A" in found
    assert "f 644 0:0 srv/b | B" in found


def test_links_of_the_base_stay_inside(adder: Adder) -> None:
    found = adder.add(archive(("lib/a", "A")), "/", base=["d 755 0:0 usr/lib", "l 777 0:0 lib -> usr/lib"])
    assert "f 644 0:0 usr/lib/a | A" in found
    assert "l 777 0:0 lib -> usr/lib" in found


def test_a_file_replaces_a_link_and_does_not_write_through_it(adder: Adder) -> None:
    target = str(adder.tmp_path / "outside")
    found = adder.add(archive(link("l", target), ("l", "mine")))
    assert found == ["d 755 0:0 x", "f 644 0:0 x/l | mine"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "gone", "d", "l/../../outside"])
def test_a_hard_link_to_what_is_no_file_of_the_archive(target: str, adder: Adder) -> None:
    data = archive(folder("d"), link("l", str(adder.tmp_path)), info("h", tarfile.LNKTYPE, linkname=target))
    with pytest.raises(ImageError):
        adder.add(data)


def test_a_hard_link_to_a_file_of_the_base_copies_it(adder: Adder) -> None:
    data = archive(info("h", tarfile.LNKTYPE, linkname="old"))
    assert adder.add(data, base=["f 640 3:4 x/old | O"])[-2:] == ["f 640 3:4 x/h | O", "f 640 3:4 x/old | O"]


def test_kinds_replace_one_another(adder: Adder) -> None:
    base = ["f 644 0:0 x/dir/old | O", "f 644 0:0 x/file | O", "l 777 0:0 x/link -> dir"]
    data = archive(("dir", "now a file"), ("file/a", "A"), folder("link"), ("link/b", "B"))
    with pytest.raises(PybuildError, match="/x/file is a file"):
        adder.add(data, base=base)


def test_a_directory_replaces_a_file_and_hides_what_a_replaced_one_held(adder: Adder) -> None:
    base = ["f 644 0:0 x/dir/old | O", "f 644 0:0 x/file | O", "l 777 0:0 x/link -> dir"]
    data = archive(
        ("dir", "a file"), folder("dir"), ("dir/new", "N"), folder("file"), folder("link"), ("link/b", "B")
    )
    assert adder.add(data, base=base) == [
        "d 755 0:0 x",
        "d 755 0:0 x/dir",
        "f 644 0:0 x/dir/new | N",
        "d 755 0:0 x/file",
        "d 755 0:0 x/link",
        "f 644 0:0 x/link/b | B",
    ]


def test_a_directory_of_this_archive_is_replaced_with_all_it_holds(adder: Adder) -> None:
    data = archive(("d/e/a", "A"), ("d", "file"), info("d", tarfile.DIRTYPE, mode=0o700), ("d/b", "B"))
    assert adder.add(data) == ["d 755 0:0 x", "d 700 0:0 x/d", "f 644 0:0 x/d/b | B"]


def test_a_damaged_archive_is_an_error(adder: Adder) -> None:
    data = archive(("a", "A" * 5000))
    with pytest.raises(ImageError, match=r"some\.file: "):
        adder.add(data[:3000])


def test_a_device_0_0_is_no_whiteout(adder: Adder) -> None:
    data = archive(info("a", tarfile.CHRTYPE, mode=0o600))
    assert adder.add(data, base=["f 644 0:0 x/a | A"])[-1] == "c 600 0:0 x/a 0:0"


def test_hosts_attributes_are_not_taken(adder: Adder) -> None:
    headers = {"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.pybuild.owner": "1:2:0:0"}
    adder.add(archive(folder("d", pax_headers=headers), info("a", pax_headers=headers)))
    names = os.listxattr(adder.layer.fs + "/x/d") + os.listxattr(adder.layer.fs + "/x/a")
    assert set(names) <= {"user.overlay.overlay.opaque"}
