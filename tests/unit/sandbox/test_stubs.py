from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.errors import SandboxError
from buildkit_py.sandbox import layout, stubs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def place(walk: stubs.Walk, path: str, *, folder: bool = False) -> None:
    os.close(walk.place(path, folder=folder))


def everything(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def test_fill(root: Path) -> None:
    stubs.fill(str(root), layout.BASE_PLACES)
    assert everything(root) == {"dev", "proc", "sys", "etc", "etc/hosts", "etc/resolv.conf"}


def test_what_is_missing_is_made(root: Path, root_fd: int) -> None:
    walk = stubs.Walk(root_fd)
    place(walk, "/a/b/file")
    place(walk, "/a/c", folder=True)
    assert (root / "a/b/file").is_file()
    assert (root / "a/c").is_dir()
    assert [s.path for s in walk.made] == ["a", "a/b", "a/b/file", "a/c"]


def test_what_is_there_is_left(root: Path, root_fd: int) -> None:
    (root / "etc").mkdir()
    (root / "etc/hosts").write_text("mine")
    walk = stubs.Walk(root_fd)
    place(walk, "/etc/hosts")
    assert walk.made == []
    assert (root / "etc/hosts").read_text() == "mine"


@pytest.mark.parametrize(
    ("link", "target", "made"),
    [
        ("resolv.conf", "../run/stub/resolv.conf", {"run", "run/stub", "run/stub/resolv.conf"}),
        ("resolv.conf", "/run/resolv.conf", {"run", "run/resolv.conf"}),
        ("resolv.conf", "../../../../../out/resolv.conf", {"out", "out/resolv.conf"}),
        ("resolv.conf", "other", {"etc/other"}),
        ("resolv.conf", "./a/../b", {"etc/a", "etc/b"}),
    ],
)
def test_links_stay_inside(root: Path, root_fd: int, link: str, target: str, made: set[str]) -> None:
    (root / "etc").mkdir()
    (root / "etc" / link).symlink_to(target)
    place(stubs.Walk(root_fd), f"/etc/{link}")
    assert everything(root) == {"etc", f"etc/{link}"} | made
    assert set(os.listdir(root.parent)) == {"root"}


def test_a_chain_of_links(root: Path, root_fd: int) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("/c/d")
    (root / "c").symlink_to("e")
    (root / "e").mkdir()
    place(stubs.Walk(root_fd), "/a")
    assert (root / "e/d").is_file()


def test_a_circle_of_links_ends(root: Path, root_fd: int) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(SandboxError, match="the mount point /a/x"):
        place(stubs.Walk(root_fd), "/a/x")


def test_a_file_in_the_way(root: Path, root_fd: int) -> None:
    (root / "a").write_text("")
    with pytest.raises(SandboxError, match="Not a directory"):
        place(stubs.Walk(root_fd), "/a/b")


def test_removed_without_trace(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for side in (lower, upper):
        (side / "run").mkdir(parents=True)
        os.utime(side / "run", ns=(5, 5))
        os.utime(side, ns=(7, 7))
    fd = os.open(upper, os.O_PATH | os.O_DIRECTORY)
    walk = stubs.Walk(fd)
    place(walk, "/run/stub/resolv.conf")
    os.close(fd)
    stubs.remove(str(upper), walk.made, (str(lower),))
    # The upper "run" was copied up for the stub alone, and is as the lower one is.
    assert os.listdir(upper) == []
    assert upper.stat().st_mtime_ns == 7


def test_what_the_run_put_there_stays(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    fd = os.open(upper, os.O_PATH | os.O_DIRECTORY)
    walk = stubs.Walk(fd)
    place(walk, "/run/a/file")
    place(walk, "/run/b", folder=True)
    os.close(fd)
    (upper / "run/a/file").write_text("the run's")
    (upper / "run/b/own").write_text("")
    stubs.remove(str(upper), walk.made, ())
    assert everything(upper) == {"run", "run/a", "run/a/file", "run/b", "run/b/own"}


def test_a_changed_parent_keeps_its_time(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    fd = os.open(upper, os.O_PATH | os.O_DIRECTORY)
    walk = stubs.Walk(fd)
    place(walk, "/etc/hosts")
    os.close(fd)
    (upper / "etc/new").write_text("")
    os.utime(upper / "etc", ns=(99, 99))
    stubs.remove(str(upper), walk.made, ())
    assert everything(upper) == {"etc", "etc/new"}
    assert (upper / "etc").stat().st_mtime_ns == 99


def test_a_stub_layer_of_any_depth_is_discarded(tmp_path: Path) -> None:
    places = [("/d" * depth, True) for depth in range(1, 1500)]
    (tmp_path / "stub").mkdir()
    stubs.fill(str(tmp_path / "stub"), (*places, ("/d/file", False)))
    stubs.discard(str(tmp_path / "stub"))
    assert os.listdir(tmp_path) == []
    stubs.discard(str(tmp_path / "stub"))
