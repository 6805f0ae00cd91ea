from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.passwd import groups, resolve_user, users
from buildkit_py.worker.owner import resolve_owner

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
broken
app:x:1000:50::/home/app:/bin/sh
huge:x:99999999999:1::/:/bin/sh
short:x:7:8
app:x:1001:51::/second:/bin/sh
"""
GROUP = """\
root:x:0:
staff:x:50:app
audio:x:29:other,app
nobody
app:x:1000:
"""


@pytest.fixture
def tree(tmp_path: Path) -> DirTree:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return DirTree(str(tmp_path))


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("", (0, 0, (0,), "/root")),
        ("root", (0, 0, (0,), "/root")),
        ("app", (1000, 50, (29, 50), "/home/app")),
        ("1000", (1000, 50, (29, 50), "/home/app")),
        ("app:audio", (1000, 29, (29,), "/home/app")),
        ("app:77", (1000, 77, (77,), "/home/app")),
        ("app:", (1000, 50, (29, 50), "/home/app")),
        ("4242", (4242, 0, (0,), "/")),
        ("4242:staff", (4242, 50, (50,), "/")),
        ("short", (7, 8, (8,), "/")),
        (":staff", (0, 50, (50,), "/root")),
    ],
)
def test_user(tree: DirTree, user: str, found: tuple[int, int, tuple[int, ...], str]) -> None:
    assert resolve_user(tree, user) == found


@pytest.mark.parametrize(
    ("user", "part"),
    [
        ("ap", "did you mean 'app'?"),
        ("app:stuff", "no group 'stuff'"),
        ("99999999999", "99999999999"),
        ("4294967295", "4294967295"),
        ("huge", "no user 'huge'"),
        ("-1", "no user '-1'"),
    ],
)
def test_unknown(tree: DirTree, user: str, part: str) -> None:
    with pytest.raises(PybuildError) as raised:
        resolve_user(tree, user)
    assert part in raised.value.message + raised.value.hint


@pytest.mark.parametrize(
    ("owner", "ids"),
    [
        ("app", (1000, 50)),
        ("1000", (1000, 1000)),
        ("app:audio", (1000, 29)),
        ("5:6", (5, 6)),
        ("root", (0, 0)),
    ],
)
def test_owner(tree: DirTree, owner: str, ids: tuple[int, int]) -> None:
    assert resolve_owner(tree, owner) == ids


@pytest.mark.parametrize("owner", ["", ":", "a:b:c", "nobody-here", "5:nogroup"])
def test_bad_owner(tree: DirTree, owner: str) -> None:
    with pytest.raises(PybuildError):
        resolve_owner(tree, owner)


def test_without_files(tmp_path: Path) -> None:
    for tree in (DirTree(str(tmp_path)), None):
        assert users(tree) == []
        assert groups(tree) == []
        assert resolve_user(tree, "") == (0, 0, (0,), "/root")
        assert resolve_owner(tree, "12:13") == (12, 13)
        assert resolve_owner(tree, "root:root") == (0, 0)
        with pytest.raises(PybuildError, match="no user 'app'"):
            resolve_owner(tree, "app")


def test_a_link_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "passwd"
    outside.write_text("evil:x:666:666::/:/bin/sh\n")
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").symlink_to(outside)
    assert users(DirTree(str(tmp_path / "root"))) == []


def test_a_fifo_is_not_opened(tmp_path: Path) -> None:
    import os

    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    assert users(DirTree(str(tmp_path))) == []
