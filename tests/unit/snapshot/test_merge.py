"""The fallback without overlayfs: what a step changes in a copy becomes a layer in overlay form."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit_py.layer.diff import write_layer
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.merge import capture, materialise
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.staging import Staged

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    fs = tmp_path / "lower" / "fs"
    (fs / "d/sub").mkdir(parents=True)
    for path in ("f", "d/x", "d/y", "d/sub/z", "hard1"):
        (fs / path).write_text(path)
        os.utime(fs / path, ns=(5, 1_700_000_000_000_000_005))
    os.link(fs / "hard1", fs / "hard2")
    (fs / "l").symlink_to("f")
    os.mkfifo(fs / "fifo", 0o640)
    os.mknod(fs / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(fs / "f", "user.note", b"1")
    os.chown(fs / "d", 5, 6)
    os.chmod(fs / "d", 0o2750)
    os.utime(fs / "d", ns=(7, 7))
    return fs


def step(lower: Path, tmp_path: Path, change: Callable[[Path], None]) -> tuple[Path, LayerTree]:
    """Run a change on a copy; return (upper layer directory, the stack with it)."""
    dest = tmp_path / "dest"
    dest.mkdir()
    recorded = materialise(LayerTree([str(lower)]), str(dest))
    change(dest)
    base = tmp_path / "staged"
    (base / "fs").mkdir(parents=True)
    staged = Staged(str(base), str(tmp_path / "trash"))
    capture(str(dest), recorded, staged)
    return base / "fs", LayerTree([staged.fs, str(lower)])


def listing(tree: LayerTree) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for entry in tree.walk(""):
        data = Path(entry.host).read_bytes() if stat.S_ISREG(entry.mode) else b""
        target = tree.readlink(entry) if stat.S_ISLNK(entry.mode) else ""
        found[entry.path] = (
            entry.mode, entry.uid, entry.gid, entry.rdev, entry.stat.st_mtime_ns, data, target,
            tree.xattrs(entry),
        )  # fmt: skip
    return found


def test_copy_is_the_same_tree(lower: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    materialise(LayerTree([str(lower)]), str(dest))
    assert listing(LayerTree([str(dest)])) == listing(LayerTree([str(lower)]))
    assert (dest / "hard1").stat().st_ino == (dest / "hard2").stat().st_ino
    assert (dest / "f").stat().st_nlink == 1


def test_no_change_is_no_layer(lower: Path, tmp_path: Path) -> None:
    upper, _ = step(lower, tmp_path, lambda dest: None)
    assert os.listdir(upper) == []
    assert write_layer(str(upper), len) == write_layer(str(upper), len, owners=Owners())


def test_changes(lower: Path, tmp_path: Path) -> None:
    def change(dest: Path) -> None:
        with open(dest / "f", "a") as file:
            file.write("more")
        os.utime(dest / "f", ns=(5, 1_700_000_000_000_000_005))
        (dest / "d/x").unlink()
        (dest / "d/new").write_text("new")
        os.chmod(dest / "d/sub/z", 0o600)
        (dest / "made").mkdir()
        (dest / "made/a").write_text("a")
        os.link(dest / "made/a", dest / "made/b")
        (dest / "l").unlink()
        (dest / "l").symlink_to("elsewhere")
        os.setxattr(dest / "hard1", "user.new", b"2")

    upper, tree = step(lower, tmp_path, change)
    assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == [
        "d", "d/new", "d/sub", "d/sub/z", "d/x", "f", "hard1", "hard2", "l", "made", "made/a", "made/b",
    ]  # fmt: skip
    assert stat.S_ISCHR((upper / "d/x").lstat().st_mode)
    assert listing(tree) == listing(LayerTree([str(tmp_path / "dest")]))
    assert (upper / "made/a").stat().st_ino == (upper / "made/b").stat().st_ino
    st = (upper / "d").stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (5, 6, 0o2750)


def test_replaced_directories(lower: Path, tmp_path: Path) -> None:
    def change(dest: Path) -> None:
        os.rename(dest / "d", dest / "moved")
        (dest / "d").mkdir()
        (dest / "d/only").write_text("only")
        (dest / "f").unlink()
        (dest / "f").mkdir()
        (dest / "f/inside").write_text("inside")

    upper, tree = step(lower, tmp_path, change)
    assert os.getxattr(upper / "d", "user.overlay.opaque") == b"y"
    assert listing(tree) == listing(LayerTree([str(tmp_path / "dest")]))
    assert tree.lookup("d/x") is None and tree.lookup("moved/sub/z") is not None


def test_directory_that_became_a_file(lower: Path, tmp_path: Path) -> None:
    def change(dest: Path) -> None:
        for path in ("d/sub/z", "d/x", "d/y"):
            (dest / path).unlink()
        (dest / "d/sub").rmdir()
        (dest / "d").rmdir()
        (dest / "d").write_text("now a file")

    _, tree = step(lower, tmp_path, change)
    assert listing(tree) == listing(LayerTree([str(tmp_path / "dest")]))
