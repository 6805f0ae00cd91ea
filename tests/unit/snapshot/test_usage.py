"""What a directory takes, whatever a step has put there."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.snapshot.usage import measure


def test_files_and_links(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 5000)
    os.link(tmp_path / "one", tmp_path / "two")
    (tmp_path / "link").symlink_to("one")
    assert measure(str(tmp_path)) == (8192, 3)


def test_deeper_than_a_path_can_name(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    try:
        for _ in range(60):
            os.mkdir("d" * 100, dir_fd=folder)
            inner = os.open("d" * 100, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
    finally:
        os.close(folder)
    _, files = measure(str(top))
    assert 30 < files < 60
    remove_tree(str(top))
