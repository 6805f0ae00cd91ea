"""A stack of layer directories must look as the kernel's overlay of them does."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from buildkit_py.snapshot.layertree import LayerTree

pytestmark = pytest.mark.needs("root")

OPAQUE = "user.overlay.opaque"


class Stack:
    """Layer directories, made lowest first."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.paths: list[str] = []

    def layer(self, *entries: str) -> Path:
        """``path/`` a directory, ``path>target`` a link, ``-path`` a whiteout, ``path/!`` an opaque
        directory, else a file that holds the layer's number."""
        number = len(self.paths)
        fs = self.base / f"layer{number}" / "fs"
        fs.mkdir(parents=True)
        self.paths.insert(0, str(fs))
        for entry in entries:
            path, _, target = entry.partition(">")
            host = fs / path.removeprefix("-").removesuffix("!")
            host.parent.mkdir(parents=True, exist_ok=True)
            if target:
                host.symlink_to(target)
            elif path.startswith("-"):
                os.mknod(host, stat.S_IFCHR, 0)
            elif path.endswith(("/", "!")):
                host.mkdir(exist_ok=True)
                if path.endswith("!"):
                    os.setxattr(host, OPAQUE, b"y")
            else:
                host.write_text(str(number))
        return fs

    def tree(self) -> LayerTree:
        return LayerTree(self.paths)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def shown(tree: LayerTree, path: str = "") -> list[str]:
    found = []
    for entry in tree.walk(path):
        text = entry.path
        if stat.S_ISREG(entry.mode):
            text += "=" + Path(entry.host).read_text()
        elif stat.S_ISDIR(entry.mode):
            text += "/"
        found.append(text)
    return found


def test_nothing() -> None:
    tree = LayerTree([])
    root = tree.lookup("")
    assert root is not None and stat.S_ISDIR(root.mode) and stat.S_IMODE(root.mode) == 0o755
    assert tree.xattrs(root) == {}
    assert tree.children("") == [] and list(tree.walk("")) == []
    assert tree.lookup("a/b") is None
    assert tree.resolve("/a/../b//c/.") == "b/c"


def test_upper_layers_win(stack: Stack) -> None:
    stack.layer("a", "d/x", "d/y", "kept")
    stack.layer("a", "d/y", "new/z")
    assert shown(stack.tree()) == ["a=1", "d/", "d/x=0", "d/y=1", "kept=0", "new/", "new/z=1"]


def test_deletions(stack: Stack) -> None:
    stack.layer("a", "d/x", "d/y", "gone/deep/f", "again/old")
    stack.layer("-a", "-d/x", "-gone", "-again", "-never")
    stack.layer("again/new")
    assert shown(stack.tree()) == ["again/", "again/new=2", "d/", "d/y=0"]
    tree = stack.tree()
    for path in ("a", "d/x", "gone", "gone/deep/f", "never", "again/old"):
        assert tree.lookup(path) is None
    assert tree.lookup("again/new") is not None


def test_whiteout_in_the_lowest_layer(stack: Stack) -> None:
    stack.layer("-a", "b")
    assert shown(stack.tree()) == ["b=0"]


def test_opaque_directories(stack: Stack) -> None:
    stack.layer("d/a", "d/sub/x", "e/a")
    stack.layer("d/!", "d/b", "d/sub/y")
    stack.layer("d/c", "e/!")
    assert shown(stack.tree()) == ["d/", "d/b=1", "d/c=2", "d/sub/", "d/sub/y=1", "e/"]
    tree = stack.tree()
    assert tree.lookup("d/sub/x") is None and tree.lookup("d/b") is not None


def test_opaque_root(stack: Stack) -> None:
    stack.layer("a")
    os.setxattr(stack.layer("b"), OPAQUE, b"y")
    stack.layer("c")
    assert shown(stack.tree()) == ["b=1", "c=2"]


def test_whiteouts_in_their_attribute_form(stack: Stack) -> None:
    stack.layer("d/a", "d/b", "d/c")
    top = stack.layer("d/a", "d/b")
    os.truncate(top / "d/a", 0)
    os.truncate(top / "d/b", 0)
    os.setxattr(top / "d/a", "user.overlay.whiteout", b"")
    os.setxattr(top / "d", OPAQUE, b"x")
    assert shown(stack.tree()) == ["d/", "d/b=", "d/c=0"]
    assert stack.tree().lookup("d/a") is None


def test_kinds_that_change(stack: Stack) -> None:
    stack.layer("file", "dir/old", "link>dir")
    stack.layer("file/now/dir", "dir", "link/x")
    stack.layer("dir/new")
    assert shown(stack.tree()) == [
        "dir/", "dir/new=2", "file/", "file/now/", "file/now/dir=1", "link/", "link/x=1",
    ]  # fmt: skip
    assert stack.tree().lookup("dir/old") is None


def test_attributes_are_the_topmost_ones(stack: Stack) -> None:
    os.chmod(stack.layer("d/a") / "d", 0o700)
    top = stack.layer("d/b") / "d"
    os.chmod(top, 0o751)
    os.chown(top, 5, 6)
    os.setxattr(top, "user.a", b"1")
    os.setxattr(top, "user.overlay.origin", b"x")
    tree = stack.tree()
    entry = tree.lookup("d")
    assert entry is not None and entry.host == str(top)
    assert (stat.S_IMODE(entry.mode), entry.uid, entry.gid) == (0o751, 5, 6)
    assert tree.xattrs(entry) == {"user.a": b"1"}


def test_links_are_resolved_inside(stack: Stack) -> None:
    stack.layer("usr/lib/x", "lib>usr/lib", "abs>/usr/lib", "up>../../../usr", "l>lib/x")
    stack.layer("usr/lib/y", "loop>loop", "a>b", "b>a", "dangling>nowhere/at/all")
    tree = stack.tree()
    for path in ("lib/x", "abs/y", "/up/lib/x", "usr/../abs/./x", "../usr/lib/y"):
        found = tree.lookup(path)
        assert found is not None and found.path in ("usr/lib/x", "usr/lib/y")
    link = tree.lookup("l", follow=False)
    assert link is not None and tree.readlink(link) == "lib/x" and link.path == "l"
    target = tree.lookup("l")
    assert target is not None and target.path == "usr/lib/x"
    assert tree.resolve("dangling/x") == "nowhere/at/all/x"
    assert tree.lookup("dangling") is None
    for path in ("loop", "a/x"):
        with pytest.raises(OSError, match="symbolic links"):
            tree.resolve(path)
    assert [entry.path for entry in tree.children("lib")] == ["usr/lib/x", "usr/lib/y"]
    assert shown(tree, "abs") == ["usr/lib/x=0", "usr/lib/y=1"]


def test_paths_through_files_lead_nowhere(stack: Stack) -> None:
    stack.layer("f")
    tree = stack.tree()
    assert tree.lookup("f/x") is None and tree.lookup("f/x/y") is None
    assert tree.children("f") == [] and tree.children("nothing") == []
    assert tree.lookup("n" * 300) is None
    found = tree.lookup("nothing/../f")
    assert found is not None and found.path == "f"
    root = tree.lookup("f/..")
    assert root is not None and root.path == "" and stat.S_ISDIR(root.mode)


def test_sorted_by_bytes(stack: Stack) -> None:
    fs = stack.layer("a-/x", "a/x", "ä", "Z")
    for raw in (b"\xff", b"\xee\x80\x80"):
        Path(os.fsdecode(os.fsencode(fs) + b"/" + raw)).write_text("")
    found = [os.fsencode(entry.path) for entry in stack.tree().walk("")]
    assert found == [b"Z", b"a", b"a/x", b"a-", b"a-/x", "ä".encode(), b"\xee\x80\x80", b"\xff"]


def test_walk_and_lookup_agree(stack: Stack) -> None:
    stack.layer("a/b/c", "a/d", "e/f", "g>a")
    stack.layer("a/b/!", "a/b/x", "-a/d", "h/i")
    stack.layer("a/j", "-e", "h")
    tree = stack.tree()
    for entry in tree.walk(""):
        assert stack.tree().lookup(entry.path, follow=False) == entry
        assert tree.lookup(entry.path, follow=False) == entry
