"""The tree of one fetched file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from buildkit_py.cache.hashing import content_digest
from buildkit_py.llb.ops import Copy
from buildkit_py.source.filetree import FileTree
from buildkit_py.worker.selection import select


@pytest.fixture
def tree(tmp_path: Path) -> FileTree:
    (tmp_path / "blob").write_bytes(b"data")
    return FileTree(str(tmp_path / "blob"), "a b", 1000)


def test_entries(tree: FileTree) -> None:
    root = tree.lookup("")
    assert root is not None and stat.S_ISDIR(root.mode)
    (entry,) = tree.children("")
    assert (entry.path, entry.mode, entry.uid, entry.gid) == ("a b", stat.S_IFREG | 0o600, 0, 0)
    assert (entry.stat.st_size, entry.stat.st_mtime_ns) == (4, 1000 * 10**9)
    assert Path(entry.host).read_bytes() == b"data"
    assert tree.lookup("/a b") == entry
    assert tree.lookup("../a b") == entry
    assert tree.lookup("b") is None
    assert list(tree.walk("")) == [entry]
    assert tree.xattrs(entry) == {}


@pytest.mark.parametrize("source", ["a b", "/", "a*"])
def test_content_does_not_depend_on_where_it_lies(tmp_path: Path, tree: FileTree, source: str) -> None:
    (tmp_path / "other").write_bytes(b"data")
    other = FileTree(str(tmp_path / "other"), "a b", 2000)
    digests = set()
    for each in (tree, other):
        selection = select(Copy(0, (source,), "/x/"), each)
        digests.add(content_digest(selection.parts, selection.listing, each))
    assert len(digests) == 1
