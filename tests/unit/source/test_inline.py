from __future__ import annotations

import stat
from pathlib import Path

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.llb.ops import Copy, File
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.source.inline import InlineTree
from buildkit_py.worker.file import copy_content_key, run_file_op
from tests.support.filetree import ROOT, Layer, describe


def test_a_tree_in_memory() -> None:
    tree = InlineTree((("b", "B\n", 0o644), ("a", "", 0o755)))
    assert [e.path for e in tree.walk("")] == ["a", "b"]
    entry = tree.lookup("./b")
    assert entry is not None
    assert (stat.S_IMODE(entry.mode), entry.stat.st_size, entry.uid) == (0o644, 2, 0)
    assert tree.data("b") == b"B\n"
    assert tree.lookup("c") is None
    root = tree.lookup("")
    assert root is not None and stat.S_ISDIR(root.mode)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b"])
def test_a_hostile_name(name: str) -> None:
    with pytest.raises(PybuildError):
        InlineTree(((name, "", 0o644),))


def test_copied_without_being_written_first(tmp_path: Path) -> None:
    tree = InlineTree((("EOF", "\udcff text\n", 0o644), ("x", "X", 0o600)))
    action = Copy(1, ("EOF", "x"), "/d/")
    digest, selection = copy_content_key(action, tree, None)
    again, _ = copy_content_key(
        action, InlineTree((("x", "X", 0o600), ("EOF", "\udcff text\n", 0o644))), None
    )
    assert digest == again
    layer = Layer(tmp_path / "new")
    run_file_op(File((action,)), None, [tree, tree], {0: selection}, layer, ROOT)
    assert (tmp_path / "new/fs/d/EOF").read_bytes() == b"\xff text\n"
    tree2 = LayerTree([layer.fs])
    assert describe(tree2)[1:] == [line for line in describe(tree2) if "/" in line]
    assert [e.stat.st_mtime_ns for e in tree2.walk("d")] == [315_619_200 * 10**9] * 2


def test_content_decides() -> None:
    def key(text: str, mode: int = 0o644, name: str = "EOF") -> str:
        return copy_content_key(Copy(1, (name,), "/d/"), InlineTree(((name, text, mode),)), None)[0]

    assert key("a") == key("a")
    assert len({key("a"), key("b"), key("a", 0o755), key("a", 0o644, "x")}) == 4
