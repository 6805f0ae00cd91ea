from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.source.local import open_context


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    tree = open_context(str(tmp_path / "link"), exclude=lambda path, is_dir: path == "b")
    assert tree.root == str(tmp_path)
    assert [e.path for e in tree.walk("")] == ["a", "link"]


def test_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(PybuildError, match="not a directory"):
        open_context(str(tmp_path / "f"))
    with pytest.raises(PybuildError, match="no build context"):
        open_context(str(tmp_path / "gone"))
