"""What a container has changed."""

from __future__ import annotations

from pathlib import Path

from buildkit_py.engine.changes import _changes
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.removal import remove_tree


def test_directories_of_any_depth(tmp_path: Path) -> None:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    lower.mkdir()
    inside = ""
    for _ in range(1200):
        inside += "/d"
        (upper / inside[1:]).mkdir(parents=inside == "/d")
    found = list(_changes(str(upper), "", LayerTree([str(lower)])))
    remove_tree(str(upper))
    assert len(found) == 1200
    assert max(found, key=lambda change: len(change[1])) == ("A", inside)
