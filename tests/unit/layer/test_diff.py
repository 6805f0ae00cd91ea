"""Layer directories as tars: what goes in comes out again, in one form."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import EMPTY, TarWriter
from buildkit_py.errors import ImageError, StoreError
from buildkit_py.layer.apply import apply_layer
from buildkit_py.layer.diff import diff_id, write_layer, write_tar
from buildkit_py.linux.identity import Identity, IdRange
from buildkit_py.linux.ownership import OWNER_XATTR, Owner, encode
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.removal import remove_tree

pytestmark = pytest.mark.needs("root")

ROOT = Identity("root")
SINGLE = Identity("single", (IdRange(0, 1000, 1),), (IdRange(0, 1000, 1),))
OPAQUE = "user.overlay.opaque"


@pytest.fixture
def fs(tmp_path: Path) -> Path:
    made = tmp_path / "layer" / "fs"
    made.mkdir(parents=True)
    return made


def tar_of(fs: Path | str, **more: object) -> bytes:
    out: list[bytes] = []
    found = write_layer(str(fs), out.append, **more)  # type: ignore[arg-type]
    data = b"".join(out)
    assert found == "sha256:" + sha256(data).hexdigest()
    return data


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: info for info in tar.getmembers()}


def test_nothing_is_the_standard_empty_tar(fs: Path) -> None:
    assert tar_of(fs) == EMPTY
    assert diff_id(str(fs)) == "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def test_sorted_by_bytes_parents_first(fs: Path) -> None:
    for name in ("b", "a-", "a", "ä", "Z"):
        (fs / name).mkdir()
    for path in ("a/z", "a/A", "a-/x"):
        (fs / path).write_bytes(b"")
    raw = os.fsencode(fs)
    for odd in (b"\xff", b"\xee\x80\x80"):
        Path(os.fsdecode(raw + b"/" + odd)).write_bytes(b"")
    found = [os.fsencode(name) for name in names(tar_of(fs))]
    assert found == [
        b"Z", b"a", b"a/A", b"a/z", b"a-", b"a-/x", b"b", "ä".encode(), b"\xee\x80\x80", b"\xff",
    ]  # fmt: skip


def test_whiteouts_and_opaque_directories(fs: Path) -> None:
    (fs / "d").mkdir()
    (fs / "d/x").write_bytes(b"x")
    os.setxattr(fs / "d", OPAQUE, b"y")
    os.mknod(fs / "gone", stat.S_IFCHR, 0)
    data = tar_of(fs)
    assert names(data) == [".wh.gone", "d", "d/.wh..wh..opq", "d/x"]
    whiteout = members(data)[".wh.gone"]
    assert (whiteout.type, whiteout.size, whiteout.mtime) == (b"0", 0, 0)


def test_whiteouts_in_their_attribute_form(fs: Path) -> None:
    (fs / "d").mkdir()
    os.setxattr(fs / "d", OPAQUE, b"x")
    (fs / "d/gone").write_bytes(b"")
    os.setxattr(fs / "d/gone", "user.overlay.whiteout", b"")
    (fs / "d/empty").write_bytes(b"")
    assert names(tar_of(fs)) == ["d", "d/.wh.gone", "d/empty"]


def test_opaque_mark_of_a_new_directory_is_left_out(fs: Path, tmp_path: Path) -> None:
    lower = tmp_path / "lower" / "fs"
    (lower / "old").mkdir(parents=True)
    for name in ("old", "new"):
        (fs / name).mkdir()
        os.setxattr(fs / name, OPAQUE, b"y")
    assert names(tar_of(fs, lower=LayerTree([str(lower)]))) == ["new", "old", "old/.wh..wh..opq"]


def test_hard_links_within_the_layer_only(fs: Path, tmp_path: Path) -> None:
    (fs / "z").write_bytes(b"data")
    (fs / "a").mkdir()
    os.link(fs / "z", fs / "a/first")
    os.link(fs / "z", tmp_path / "elsewhere")
    (fs / "single").write_bytes(b"data")
    os.link(fs / "single", tmp_path / "other")
    found = members(tar_of(fs))
    assert (found["a/first"].type, found["a/first"].size) == (b"0", 4)
    assert (found["z"].type, found["z"].linkname) == (b"1", "a/first")
    assert found["single"].type == b"0"


def test_attributes(fs: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    (fs / "f").write_bytes(b"")
    os.setxattr(fs / "f", "user.note", b"\0\n")
    os.setxattr(fs / "f", "security.capability", capability)
    for name in ("user.overlay.origin", "user.overlay.overlay.opaque"):
        os.setxattr(fs / "f", name, b"z")
    headers = members(tar_of(fs))["f"].pax_headers
    found = {key: value for key, value in headers.items() if key.startswith("SCHILY")}
    assert found == {
        "SCHILY.xattr.user.note": "\0\n",
        "SCHILY.xattr.security.capability": capability.decode(),
        "SCHILY.xattr.user.overlay.opaque": "z",
    }


def test_capability_of_another_namespace_becomes_a_plain_one(fs: Path) -> None:
    (fs / "f").write_bytes(b"")
    # Version 3: the same, and the id that is root in the namespace where it was set.
    value = bytes.fromhex("0100000300200000000000000000000000000000") + (1000).to_bytes(4, "little")
    os.setxattr(fs / "f", "security.capability", value)
    header = members(tar_of(fs))["f"].pax_headers["SCHILY.xattr.security.capability"]
    assert header.encode() == bytes.fromhex("0100000200200000000000000000000000000000")


def test_recorded_owners(fs: Path) -> None:
    (fs / "f").write_bytes(b"data")
    os.setxattr(fs / "f", OWNER_XATTR, encode(Owner(5, 6)))
    os.link(fs / "f", fs / "h")
    (fs / "null").write_bytes(b"")
    os.setxattr(fs / "null", OWNER_XATTR, encode(Owner(0, 5, stat.S_IFCHR | 0o620, os.makedev(1, 3))))
    os.symlink("f", fs / "l")
    owners = Owners()
    owners["l"] = Owner(7, 8)
    owners.save(str(fs.parent / "owners"))
    found = members(tar_of(fs))
    assert (found["f"].uid, found["f"].gid, found["f"].size) == (5, 6, 4)
    assert (found["h"].uid, found["h"].gid, found["h"].type) == (5, 6, b"1")
    assert (found["l"].uid, found["l"].gid) == (7, 8)
    null = found["null"]
    assert (null.type, null.mode, null.gid, null.devmajor, null.devminor) == (b"3", 0o620, 5, 1, 3)


def test_sockets_are_left_out(fs: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(fs)
        try:
            server.bind("s")
        finally:
            os.chdir(here)
    (fs / "f").write_bytes(b"")
    assert names(tar_of(fs)) == ["f"]


def test_name_that_means_a_deletion_is_refused(fs: Path) -> None:
    (fs / ".wh.f").write_bytes(b"")
    with pytest.raises(StoreError, match=r"\.wh\.f"):
        tar_of(fs)


def test_no_clock_and_no_names(fs: Path) -> None:
    (fs / "f").write_bytes(b"")
    os.utime(fs / "f", ns=(1, 1_700_000_000_000_000_000))
    first = tar_of(fs)
    os.utime(fs / "f", ns=(2, 1_700_000_000_000_000_000))
    assert tar_of(fs) == first
    assert members(first)["f"].uname == ""
    # No fraction of a second: no extended header.
    assert len(first) == 512 + 1024


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..") and not name.startswith(".wh.") and len(name.encode()) < 200
) | st.sampled_from(["a", "b", "c", "\udcff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TIMES = st.integers(0, 2**62)
MODES = st.integers(0, 0o7777)
IDS = st.sampled_from([0, 1, 1000, 65534, 100_000])
XATTRS = st.dictionaries(
    st.sampled_from(["user.a", "user.overlay.opaque", "user.overlay.overlay.x"]), st.binary(max_size=9)
)


@st.composite
def layers(draw: st.DrawFn) -> bytes:
    """A layer as a stranger would write it: any order, missing parents, things replaced later."""
    out = io.BytesIO()
    writer = TarWriter(out.write)
    files: list[str] = []
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["file", "dir", "link", "hard", "fifo", "dev", "whiteout", "opaque"]))
        path = draw(PATHS)
        base = Member(path, uid=draw(IDS), gid=draw(IDS), mode=draw(MODES), mtime=draw(TIMES))
        if kind == "file":
            writer.add_bytes(base._replace(xattrs=draw(XATTRS)), draw(st.binary(max_size=2000)))
            files.append(path)
        elif kind == "dir":
            writer.add(base._replace(kind=kinds.DIRECTORY, xattrs=draw(XATTRS)))
        elif kind == "link":
            writer.add(base._replace(kind=kinds.SYMLINK, target=draw(PATHS)))
        elif kind == "hard" and files:
            writer.add(base._replace(kind=kinds.HARD_LINK, target=draw(st.sampled_from(files))))
        elif kind == "fifo":
            writer.add(base._replace(kind=kinds.FIFO))
        elif kind == "dev":
            writer.add(base._replace(kind=kinds.BLOCK, rdev=os.makedev(7, 300)))
        elif kind == "whiteout":
            parent, _, name = path.rpartition("/")
            writer.add(Member(f"{parent}/.wh.{name}" if parent else f".wh.{name}"))
        elif kind == "opaque":
            writer.add(Member(f"{path}/.wh..wh..opq"))
    writer.close()
    return out.getvalue()


@settings(max_examples=150, deadline=None)
@given(layers(), st.sampled_from([ROOT, SINGLE]))
def test_round_trip(layer: bytes, identity: Identity) -> None:
    with unpacked(layer, identity) as first:
        if first is None:
            return
        once = tar_of(first)
    with unpacked(once, identity) as second:
        assert second is not None
        assert tar_of(second) == once
    # What one identity writes, another one gives back.
    with unpacked(once, ROOT if identity is SINGLE else SINGLE) as third:
        assert third is not None
        assert tar_of(third) == once


class unpacked:
    """A layer directory for a while; None where the archive is refused."""

    def __init__(self, data: bytes, identity: Identity) -> None:
        self._data = data
        self._identity = identity
        self._base = tempfile.mkdtemp(prefix="pybuild-test-")

    def __enter__(self) -> str | None:
        fs = self._base + "/fs"
        os.mkdir(fs, 0o755)
        owners = Owners()
        try:
            apply_layer(io.BytesIO(self._data), fs, self._identity, owners)
        except ImageError:
            return None
        owners.save(self._base + "/owners")
        return fs

    def __exit__(self, *exception: object) -> None:
        remove_tree(self._base)


def test_tarfile_and_gnu_tar_unpack_the_same_tree(fs: Path, tmp_path: Path) -> None:
    import subprocess

    (fs / "d").mkdir()
    (fs / "d/f").write_bytes(b"data" * 1000)
    os.utime(fs / "d/f", ns=(5, 1_700_000_000_123_456_789))
    os.chmod(fs / "d/f", 0o4711)
    os.symlink("d/f", fs / "l")
    os.link(fs / "d/f", fs / "hard")
    (fs / ("n" * 120)).mkdir()
    data = tar_of(fs)
    by_tar, by_tarfile = tmp_path / "1", tmp_path / "2"
    by_tar.mkdir()
    by_tarfile.mkdir()
    subprocess.run(["tar", "-C", by_tar, "-xp"], input=data, check=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(by_tarfile)
    assert tar_of(by_tar) == data
    assert names(tar_of(by_tarfile)) == names(data)


def test_reading_only_the_bytes(fs: Path) -> None:
    out: list[bytes] = []
    write_tar(str(fs), out.append)
    assert b"".join(out) == EMPTY


def test_a_directory_that_becomes_a_link_leads_nowhere(tmp_path: Path) -> None:
    """A container that runs may change its layer while it is read."""
    secret, place = tmp_path / "secret", tmp_path / "place"
    secret.mkdir()
    (secret / "b").write_text("secret")
    (place / "x").mkdir(parents=True)
    (place / "x" / "a").write_bytes(bytes(2 << 20))
    (place / "x" / "b").write_text("own")
    written = b""

    def write(data: bytes) -> None:
        nonlocal written
        written += data
        if not (place / "x").is_symlink():
            (place / "x").rename(tmp_path / "away")
            (place / "x").symlink_to(secret)

    with pytest.raises(StoreError):
        write_layer(str(place), write, live=True)
    assert b"secret" not in written
