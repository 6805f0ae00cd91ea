from __future__ import annotations

import os
import stat
from pathlib import Path

from buildkit_py.snapshot.removal import remove_tree


def test_everything_goes_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"kept")
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/f").write_bytes(b"x" * 10_000)
    (tree / "a/link").symlink_to(outside)
    os.mkfifo(tree / "a/fifo")
    assert remove_tree(str(tree)) >= 8192
    assert not tree.exists()
    assert (outside / "f").read_bytes() == b"kept"


def test_link_file_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"")
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "file").write_bytes(b"")
    for name in ("link", "file", "nothing"):
        assert remove_tree(str(tmp_path / name)) == 0
    assert os.listdir(tmp_path) == ["d"] and (tmp_path / "d/f").exists()


def test_closed_directories(tmp_path: Path) -> None:
    (tmp_path / "t/a/b").mkdir(parents=True)
    (tmp_path / "t/a/b/f").write_bytes(b"")
    (tmp_path / "t/readonly").mkdir()
    (tmp_path / "t/readonly/f").write_bytes(b"")
    os.chmod(tmp_path / "t/readonly", 0o500)
    os.chmod(tmp_path / "t/a/b", 0)
    os.chmod(tmp_path / "t/a", 0)
    os.chmod(tmp_path / "t", 0)
    remove_tree(str(tmp_path / "t"))
    assert not (tmp_path / "t").exists()


def test_any_depth(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(str(tmp_path / "deeper"))
    assert os.listdir(tmp_path) == []


def test_hard_links_to_the_outside_free_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"x" * 100_000)
    (tmp_path / "t").mkdir()
    os.link(tmp_path / "kept", tmp_path / "t/f")
    assert remove_tree(str(tmp_path / "t")) == 0
    assert stat.S_ISREG((tmp_path / "kept").stat().st_mode)
