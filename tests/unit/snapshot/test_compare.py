"""Two trees, file by file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit_py.snapshot.compare import differences
from buildkit_py.snapshot.dirtree import DirTree
from tests.support.filetree import plant

LINES = [
    "d 755 0:0 a",
    "f 644 0:0 a/f | one",
    "f 644 0:0 a.b | two",
    "f 644 0:0 b | three",
    "l 777 0:0 l -> b",
]


def found(tmp_path: Path, *, times: bool = False) -> list[tuple[str, str]]:
    trees = (DirTree(str(tmp_path / name)) for name in ("old", "new"))
    return [(d.path, d.what) for d in differences(*trees, times=times)]


@pytest.fixture
def new(tmp_path: Path) -> Path:
    plant(tmp_path / "old", LINES)
    return plant(tmp_path / "new", LINES)


def test_equal_trees(new: Path, tmp_path: Path) -> None:
    os.utime(new / "b", (1, 1))
    assert found(tmp_path) == []
    assert ("/b", "time") in found(tmp_path, times=True)


def replace(path: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / path).unlink()
        make(root / path)

    return change


def link(root: Path) -> None:
    (root / "a.b").unlink()
    os.link(root / "b", root / "a.b")
    (root / "b").write_text("two")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: (r / "a/f").write_text("ONE"), [("/a/f", "content")]),
        (lambda r: (r / "a/f").write_text("longer"), [("/a/f", "size")]),
        (lambda r: (r / "b").chmod(0o600), [("/b", "mode")]),
        (lambda r: (r / "a").chmod(0o700), [("/a", "mode")]),
        (lambda r: (r / "b").unlink(), [("/b", "only")]),
        (lambda r: (r / "a/new").write_text(""), [("/a/new", "only")]),
        (lambda r: (r / "a!").mkdir(), [("/a!", "only")]),
        (lambda r: os.setxattr(r / "b", "user.k", b"v"), [("/b", "xattrs")]),
        (replace("l", lambda p: p.symlink_to("a")), [("/l", "target")]),
        (replace("l", lambda p: p.write_text("three")), [("/l", "type")]),
        (replace("b", lambda p: p.mkdir()), [("/b", "type")]),
    ],
)
def test_every_kind_of_difference(
    new: Path, tmp_path: Path, change: Callable[[Path], object], expected: list[tuple[str, str]]
) -> None:
    change(new)
    assert found(tmp_path) == expected


def test_hard_links(new: Path, tmp_path: Path) -> None:
    link(new)
    assert ("/b", "links") in found(tmp_path)
