"""Layers of strangers: what they may do inside of their directory, and nothing outside."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import TarWriter
from buildkit_py.errors import ImageError, StoreError
from buildkit_py.layer.apply import apply_layer
from buildkit_py.linux.identity import Identity, IdRange
from buildkit_py.linux.ownership import OWNER_XATTR, Owner, decode
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.snapshot.tree import Tree

pytestmark = pytest.mark.needs("root")

ROOT = Identity("root")
SINGLE = Identity("single", (IdRange(0, 1000, 1),), (IdRange(0, 1000, 1),))


def tar(*entries: Member | tuple[Member, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for entry in entries:
        if not isinstance(entry, Member):
            writer.add_bytes(*entry)
        else:
            writer.add(entry)
    writer.close()
    return out.getvalue()


def file(path: str, data: bytes = b"data", **more: object) -> tuple[Member, bytes]:
    return Member(path)._replace(**more), data  # type: ignore[arg-type]


def folder(path: str, **more: object) -> Member:
    return Member(path, kinds.DIRECTORY, 0o755)._replace(**more)  # type: ignore[arg-type]


def link(path: str, target: str) -> Member:
    return Member(path, kinds.SYMLINK, 0o777, target=target)


def hard(path: str, target: str) -> Member:
    return Member(path, kinds.HARD_LINK, target=target)


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "layer" / "fs"
    made.mkdir(parents=True)
    yield made
    # What some of these layers make is deeper than pytest can delete.
    remove_tree(str(made))


def apply(
    fs: Path,
    *entries: Member | tuple[Member, bytes],
    identity: Identity = ROOT,
    owners: Owners | None = None,
    lower: Tree | None = None,
) -> None:
    data = tar(*entries)
    found = apply_layer(
        io.BytesIO(data), str(fs), identity, Owners() if owners is None else owners, lower=lower
    )
    assert found == "sha256:" + sha256(data).hexdigest()


def is_whiteout(path: Path) -> bool:
    st = path.lstat()
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def is_opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "user.overlay.opaque") == b"y"
    except OSError:
        return False


def test_files_with_everything(fs: Path) -> None:
    apply(
        fs,
        folder("d", mode=0o1750, uid=7, gid=8, mtime=1_500_000_000_123_456_789),
        file("d/f", b"x" * 100_000, mode=0o4755, uid=7, gid=8, mtime=1_600_000_000_000_000_001),
        link("d/l", "/etc/passwd")._replace(uid=9, gid=10, mtime=3_000_000_005),
        hard("h", "d/f"),
        Member("p", kinds.FIFO, 0o622, mtime=5),
        Member("null", kinds.CHARACTER, 0o666, rdev=os.makedev(1, 3)),
    )
    d, f, ln = (fs / "d").lstat(), (fs / "d/f").lstat(), (fs / "d/l").lstat()
    assert (stat.S_IMODE(d.st_mode), d.st_uid, d.st_gid) == (0o1750, 7, 8)
    assert d.st_mtime_ns == 1_500_000_000_123_456_789
    assert (stat.S_IMODE(f.st_mode), f.st_uid, f.st_gid) == (0o4755, 7, 8)
    assert f.st_mtime_ns == 1_600_000_000_000_000_001
    assert (ln.st_uid, ln.st_gid, ln.st_mtime_ns) == (9, 10, 3_000_000_005)
    assert os.readlink(fs / "d/l") == "/etc/passwd"
    assert (fs / "h").lstat().st_ino == f.st_ino
    assert stat.S_ISFIFO((fs / "p").lstat().st_mode)
    assert stat.S_IMODE((fs / "p").lstat().st_mode) == 0o622
    assert (fs / "null").lstat().st_rdev == os.makedev(1, 3)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_whatever_the_umask(fs: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        apply(fs, folder("d", mode=0o777), file("d/f", mode=0o666), Member("p", kinds.FIFO, 0o666))
    finally:
        os.umask(before)
    assert [stat.S_IMODE((fs / name).stat().st_mode) for name in ("d", "d/f", "p")] == [0o777, 0o666, 0o666]


def test_files_in_a_set_group_id_directory_keep_their_group(fs: Path) -> None:
    apply(fs, folder("d", mode=0o2775, gid=50), file("d/f"), folder("d/sub"), link("d/l", "f"))
    assert [(fs / name).lstat().st_gid for name in ("d", "d/f", "d/sub", "d/l")] == [50, 0, 0, 0]
    assert stat.S_IMODE((fs / "d/sub").stat().st_mode) == 0o755


def test_root_entry_sets_the_root(fs: Path) -> None:
    apply(fs, folder("./", mode=0o1777, mtime=5_000_000_000), file("./f"))
    assert stat.S_IMODE(fs.stat().st_mode) == 0o1777
    assert fs.stat().st_mtime_ns == 5_000_000_000


def test_whiteouts_and_opaque_directories(fs: Path) -> None:
    apply(
        fs,
        folder("d"),
        file("d/.wh..wh..opq", b""),
        file("d/new"),
        file(".wh.gone", b""),
        file("implied/.wh.gone", b""),
    )
    assert is_opaque(fs / "d")
    assert is_whiteout(fs / "gone")
    assert is_whiteout(fs / "implied/gone")
    assert not is_opaque(fs / "implied")


@pytest.mark.parametrize("first", ["deletion", "file"])
def test_new_things_in_place_of_deleted_ones(fs: Path, first: str) -> None:
    deletions = [file(".wh.f", b""), file(".wh.d", b"")]
    made: list[Member | tuple[Member, bytes]] = [file("f"), folder("d"), file("d/x")]
    apply(fs, *deletions, *made) if first == "deletion" else apply(fs, *made, *deletions)
    assert (fs / "f").read_bytes() == b"data"
    assert is_opaque(fs / "d")
    assert (fs / "d/x").exists()


def test_deleted_directory_that_only_a_file_names_again(fs: Path) -> None:
    apply(fs, file(".wh.d", b""), file("d/x"))
    assert is_opaque(fs / "d") and (fs / "d/x").exists()


def test_old_aufs_bookkeeping_is_left_out(fs: Path) -> None:
    apply(fs, folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs", b""), file("f"))
    assert os.listdir(fs) == ["f"]


def test_later_entries_replace_earlier_ones(fs: Path) -> None:
    apply(
        fs,
        folder("a"),
        folder("a/b"),
        file("a/b/c"),
        file("a", b"now a file"),
        file("x"),
        folder("x"),
        link("l", "a"),
        file("l", b"was a link"),
        file("y"),
        link("y", "a"),
    )
    assert (fs / "a").read_bytes() == b"now a file"
    assert (fs / "x").is_dir()
    assert (fs / "l").read_bytes() == b"was a link" and not (fs / "l").is_symlink()
    assert os.readlink(fs / "y") == "a"


def test_missing_parents(fs: Path) -> None:
    apply(fs, file("a/b/c"))
    st = (fs / "a/b").stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_mtime_ns) == (0o755, 0, 0)


def test_missing_parents_are_as_the_lower_tree_has_them(fs: Path, tmp_path: Path) -> None:
    lower = tmp_path / "lower" / "fs"
    (lower / "a").mkdir(parents=True)
    os.chmod(lower / "a", 0o1711)
    os.chown(lower / "a", 5, 6)
    os.utime(lower / "a", ns=(7, 7))
    apply(fs, file("a/b/c"), lower=LayerTree([str(lower)]))
    st = (fs / "a").stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (0o1711, 5, 6, 7)


def test_hard_link_into_the_lower_tree_copies_up(fs: Path, tmp_path: Path) -> None:
    lower = tmp_path / "lower" / "fs"
    (lower / "bin").mkdir(parents=True)
    (lower / "bin/tool").write_bytes(b"tool")
    os.chmod(lower / "bin/tool", 0o4755)
    os.utime(lower / "bin/tool", ns=(9, 9))
    apply(fs, hard("alias", "bin/tool"), lower=LayerTree([str(lower)]))
    assert (fs / "alias").stat().st_ino == (fs / "bin/tool").stat().st_ino
    assert (lower / "bin/tool").stat().st_nlink == 1
    assert (fs / "alias").read_bytes() == b"tool"
    assert stat.S_IMODE((fs / "alias").stat().st_mode) == 0o4755
    assert (fs / "alias").stat().st_mtime_ns == 9


@pytest.mark.parametrize("hidden", [".wh.tool", ".wh..wh..opq"])
def test_hard_link_to_what_the_layer_deleted(fs: Path, tmp_path: Path, hidden: str) -> None:
    lower = tmp_path / "lower" / "fs"
    (lower / "bin").mkdir(parents=True)
    (lower / "bin/tool").write_bytes(b"tool")
    with pytest.raises(ImageError):
        apply(
            fs, folder("bin"), file("bin/" + hidden, b""), hard("alias", "bin/tool"),
            lower=LayerTree([str(lower)]),
        )  # fmt: skip


def test_attributes(fs: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    apply(
        fs,
        file(
            "f",
            xattrs={
                "user.note": b"\0binary",
                "security.capability": capability,
                "user.overlay.opaque": b"y",
                "trusted.overlay.opaque": b"y",
                "security.selinux": b"label",
                OWNER_XATTR: b"5:5:0:0",
            },
        ),
        folder("d", xattrs={"user.overlay.opaque": b"y", OWNER_XATTR: b"1:2:4755:0"}),
    )
    assert os.getxattr(fs / "f", "user.note") == b"\0binary"
    assert os.getxattr(fs / "f", "security.capability") == capability
    names = set(os.listxattr(fs / "f"))
    assert names == {"user.note", "security.capability", "user.overlay.overlay.opaque"}
    assert not is_opaque(fs / "d")
    assert os.listxattr(fs / "d") == ["user.overlay.overlay.opaque"]


def test_default_acl_of_a_directory_is_not_bequeathed(fs: Path) -> None:
    # user::rwx, group::rwx, other::rwx, as the kernel lays an ACL out.
    acl = bytes.fromhex("02000000 01000700ffffffff 04000700ffffffff 20000700ffffffff".replace(" ", ""))
    apply(fs, folder("d", xattrs={"system.posix_acl_default": acl}), file("d/f", mode=0o640))
    assert stat.S_IMODE((fs / "d/f").stat().st_mode) == 0o640
    assert "system.posix_acl_default" in os.listxattr(fs / "d")


def test_owners_that_cannot_be_had_are_recorded(fs: Path) -> None:
    owners = Owners()
    apply(
        fs,
        folder("d", uid=5, gid=6, mode=0o2755),
        file("d/f", uid=7, gid=8, mode=0o4711),
        link("d/l", "f")._replace(uid=9, gid=10),
        Member("null", kinds.CHARACTER, 0o666, 0, 5, rdev=os.makedev(1, 3), mtime=4),
        Member("fifo", kinds.FIFO, 0o600, 3, 4),
        hard("m", "d/l"),
        file("mine"),
        identity=SINGLE,
        owners=owners,
    )
    assert decode(os.getxattr(fs / "d", OWNER_XATTR)) == Owner(5, 6)
    assert decode(os.getxattr(fs / "d/f", OWNER_XATTR)) == Owner(7, 8)
    assert stat.S_IMODE((fs / "d/f").stat().st_mode) == 0o4711
    assert (fs / "d/f").stat().st_uid == 0
    assert dict(owners) == {"d/l": Owner(9, 10), "m": Owner(9, 10), "fifo": Owner(3, 4)}
    null = (fs / "null").lstat()
    assert stat.S_ISREG(null.st_mode) and null.st_size == 0 and null.st_mtime_ns == 4
    assert decode(os.getxattr(fs / "null", OWNER_XATTR)) == Owner(
        0, 5, stat.S_IFCHR | 0o666, os.makedev(1, 3)
    )
    assert os.listxattr(fs / "mine") == []
    owners.save(str(fs.parent / "owners"))
    tree = LayerTree([str(fs)], recorded=True)
    shown = {entry.path: (entry.mode, entry.uid, entry.gid, entry.rdev) for entry in tree.walk("")}
    assert shown["d"] == (stat.S_IFDIR | 0o2755, 5, 6, 0)
    assert shown["d/l"] == (stat.S_IFLNK | 0o777, 9, 10, 0)
    assert shown["null"] == (stat.S_IFCHR | 0o666, 0, 5, os.makedev(1, 3))


# hostile ones


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "victim").write_bytes(b"untouched")
    os.chmod(made / "victim", 0o600)
    os.utime(made / "victim", ns=(1, 1))
    os.utime(made, ns=(1, 1))
    return made


def unharmed(outside: Path) -> bool:
    victim = outside / "victim"
    st = victim.lstat()
    return (
        os.listdir(outside) == ["victim"]
        and victim.read_bytes() == b"untouched"
        and (st.st_nlink, stat.S_IMODE(st.st_mode), st.st_mtime_ns) == (1, 0o600, 1)
        and (outside.stat().st_mtime_ns, stat.S_IMODE(outside.stat().st_mode)) == (1, 0o755)
        and not os.listxattr(outside)
        and not os.listxattr(victim)
    )


def escapes(outside: Path) -> list[list[Member | tuple[Member, bytes]]]:
    there = str(outside)
    up = "../" * 20 + there.lstrip("/")
    return [
        [file(up + "/f")],
        [file("a/../../" + up + "/f")],
        [file("../outside/f")],
        [folder("d/..")],
        [link("l", there), file("l/f")],
        [link("l", up), file("l/f"), folder("l/d"), link("l/m", "x")],
        [link("l", there), hard("h", "l/victim")],
        [hard("h", up + "/victim")],
        [hard("h", there + "/victim")],
        [link("l", there + "/victim"), hard("h", "l"), file("h", b"overwritten")],
        [link("l", there + "/victim"), file("l", b"overwritten")],
        [link("l", there), folder("l", mode=0o777, mtime=99)],
        [link("l", there), file("l/.wh.victim", b"")],
        [link("l", there), file("l/.wh..wh..opq", b"")],
        [link("l", there + "/victim"), Member("l", kinds.FIFO)],
        [
            folder("d"),
            folder("d/outside", mode=0o700, mtime=99),
            file("d", b""),
            link("d", str(outside.parent)),
        ],
        [folder("d", mode=0o777, mtime=99), link("d", there)],
        [folder("a"), folder("a/b", mtime=99), hard("c", "a/b")],
        [link("a", "b"), link("b", "a"), file("a/f")],
        [link("a", "."), link("b", "a/" * 45 + "../../" + up), file("b/f")],
        [file("f"), file("f/g")],
        [file(".wh...", b"")],
        [file(".wh..", b"")],
        [file(".wh.", b"")],
        [file("d/.wh.x/y")],
        [hard("h", ".wh.x")],
        [hard("h", "nothing")],
        [hard("h", "")],
        [file("/"), file(".")],
        [Member("c", kinds.CHARACTER)],
        [file("n" * 300)],
        [file("p/" * 2040 + "f")],
    ]


@pytest.mark.parametrize("number", range(32))
def test_escapes(fs: Path, outside: Path, number: int) -> None:
    cases = escapes(outside)
    assert len(cases) == 32
    try:
        apply(fs, *cases[number])
    except ImageError:
        pass
    assert unharmed(outside)


def test_absolute_paths_and_links_stay_inside(fs: Path) -> None:
    apply(
        fs,
        file("/etc/f", b"one"),
        folder("usr/lib"),
        link("lib", "usr/lib"),
        file("lib/g", b"two"),
        link("abs", "/usr/lib"),
        file("abs/h", b"three"),
        link("usr/up", "../../../usr"),
        file("usr/up/i", b"four"),
        hard("lib/j", "abs/h"),
    )
    assert (fs / "etc/f").read_bytes() == b"one"
    assert (fs / "usr/lib/g").read_bytes() == b"two"
    assert (fs / "usr/lib/h").read_bytes() == b"three"
    assert (fs / "usr/i").read_bytes() == b"four"
    assert (fs / "usr/lib/j").stat().st_ino == (fs / "usr/lib/h").stat().st_ino
    assert (fs / "lib").is_symlink()


def test_many_directories_and_deep_ones(fs: Path) -> None:
    entries = [file(f"d{number}/e/f") for number in range(200)] * 2
    apply(fs, *entries, file("/".join("d" * 1500)), *[hard(f"d{n}/h", f"d{199 - n}/e/f") for n in range(200)])
    assert (fs / "d7/h").stat().st_ino == (fs / "d192/e/f").stat().st_ino


def test_damaged_archive(fs: Path) -> None:
    data = tar(file("f", b"x" * 3_000_000))
    with pytest.raises(ImageError, match="ends in the middle"):
        apply_layer(io.BytesIO(data[:2_000_000]), str(fs), ROOT, Owners())


def test_padding_counts_for_the_digest(fs: Path) -> None:
    data = tar(file("f")) + bytes(9000)
    assert apply_layer(io.BytesIO(data), str(fs), ROOT, Owners()) == "sha256:" + sha256(data).hexdigest()


def test_error_of_the_stream_is_passed_on(fs: Path) -> None:
    class Failing:
        def __init__(self) -> None:
            self._file = io.BytesIO(tar(file("f", bytes(3 << 20))))

        def read(self, size: int, /) -> bytes:
            if self._file.tell() > 1 << 20:
                raise StoreError("the disk is on fire")
            return self._file.read(size)

    with pytest.raises(StoreError, match="on fire"):
        apply_layer(Failing(), str(fs), ROOT, Owners())
