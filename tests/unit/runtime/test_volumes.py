"""Volumes: what is mounted, what is made for it, and what a new volume takes over from the image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.request import MountSpec
from buildkit_py.runtime.volumes import VolumeStore, image_volumes, named
from buildkit_py.snapshot.dirtree import DirTree


@pytest.fixture
def image(tmp_path: Path) -> DirTree:
    data = tmp_path / "image" / "data"
    (data / "sub").mkdir(parents=True)
    (data / "file").write_text("from the image")
    (data / "link").symlink_to("file")
    (data / "sub").chmod(0o750)
    return DirTree(str(tmp_path / "image"))


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    return VolumeStore(str(tmp_path / "store"))


def test_a_new_volume_takes_over_the_images_files(store: VolumeStore, image: DirTree) -> None:
    mount = store.mount(MountSpec("volume", "/data", "db"), image)
    made = Path(mount.source)
    assert sorted(p.name for p in made.iterdir()) == ["file", "link", "sub"]
    assert (made / "file").read_text() == "from the image"
    assert os.readlink(made / "link") == "file"
    assert (made / "sub").stat().st_mode & 0o777 == 0o750
    assert not mount.readonly


def test_an_old_volume_is_left_as_it_is(store: VolumeStore, image: DirTree) -> None:
    first = store.mount(MountSpec("volume", "/data", "db"), image)
    Path(first.source, "file").write_text("changed")
    second = store.mount(MountSpec("volume", "/data", "db", readonly=True), image)
    assert second.source == first.source
    assert second.readonly
    assert Path(second.source, "file").read_text() == "changed"


def test_anonymous_volumes_get_names(store: VolumeStore, image: DirTree) -> None:
    given = (MountSpec("volume", "/data"), MountSpec("volume", "/elsewhere"), MountSpec("volume", "/x", "db"))
    mounts, names = named(given)
    assert [m.source for m in mounts] == [*names, "db"]
    assert len({*names}) == 2
    two = store.mount(mounts[1], image)
    assert os.listdir(two.source) == []
    assert os.path.isdir(store.discard(names[1]))
    assert not os.path.exists(two.source)


def test_a_missing_host_directory_is_made(store: VolumeStore, image: DirTree, tmp_path: Path) -> None:
    mount = store.mount(MountSpec("bind", "/mnt", str(tmp_path / "new" / "dir")), image)
    assert mount.kind == "bind"
    assert (tmp_path / "new" / "dir").is_dir()


def test_a_host_file_is_mounted_as_it_is(store: VolumeStore, image: DirTree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert store.mount(MountSpec("bind", "/f", str(tmp_path / "file")), image).source.endswith("/file")
    with pytest.raises(PybuildError, match="cannot make the directory"):
        store.mount(MountSpec("bind", "/f", str(tmp_path / "file" / "below")), image)


def test_tmpfs_options(store: VolumeStore, image: DirTree) -> None:
    mount = store.mount(MountSpec("tmpfs", "/t", options=(("size", "65536"), ("mode", "700"))), image)
    assert (mount.kind, mount.size, mount.mode) == ("tmpfs", 65536, 0o700)


def test_declared_volumes_become_anonymous_ones_unless_mounted() -> None:
    config: dict[str, object] = {"Volumes": {"/a": {}, "/b/": {}}}
    assert image_volumes(config, [MountSpec("bind", "/b", "/x")]) == (MountSpec("volume", "/a"),)
    assert image_volumes({}, []) == ()
