"""Volumes: what is made, kept and removed, and what a new one takes over from the image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.errors import NotFoundError, PybuildError, UsageError
from buildkit_py.request import MountSpec
from buildkit_py.runtime.mounts import prepare, sandbox_mount
from buildkit_py.runtime.volumes import VolumeStore, image_volumes, named
from buildkit_py.sandbox.spec import SandboxMount
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.tree import Entry


@pytest.fixture
def image(tmp_path: Path) -> DirTree:
    data = tmp_path / "image" / "data"
    (data / "sub").mkdir(parents=True)
    (data / "file").write_text("from the image")
    os.utime(data / "file", (1000, 1000))
    os.link(data / "file", data / "twin")
    (data / "link").symlink_to("file")
    (data / "sub").chmod(0o750)
    return DirTree(str(tmp_path / "image"))


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    return VolumeStore(str(tmp_path / "store"))


def mounted(store: VolumeStore, image: DirTree, mount: MountSpec) -> SandboxMount:
    prepare(mount, image, store, anonymous=False)
    return sandbox_mount(mount, store)


def test_a_new_volume_takes_over_the_images_files(store: VolumeStore, image: DirTree) -> None:
    made = Path(mounted(store, image, MountSpec("volume", "/data", "db")).source)
    assert sorted(p.name for p in made.iterdir()) == ["file", "link", "sub", "twin"]
    assert (made / "file").read_text() == "from the image"
    assert (made / "file").stat().st_mtime == 1000
    assert os.readlink(made / "link") == "file"
    assert (made / "sub").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("option", ["nocopy", "volume-nocopy"])
def test_unless_it_should_not(store: VolumeStore, image: DirTree, option: str) -> None:
    mount = mounted(store, image, MountSpec("volume", "/data", "db", options=((option, ""),)))
    assert os.listdir(mount.source) == []


def test_an_empty_volume_is_filled_and_another_left_as_it_is(store: VolumeStore, image: DirTree) -> None:
    store.create("db")
    first = mounted(store, image, MountSpec("volume", "/data", "db"))
    Path(first.source, "file").write_text("changed")
    second = mounted(store, image, MountSpec("volume", "/data", "db", readonly=True))
    assert second.source == first.source
    assert second.readonly
    assert Path(second.source, "file").read_text() == "changed"


def test_a_copy_that_was_broken_off_is_done_again(store: VolumeStore, image: DirTree) -> None:
    volume = store.create("db")
    Path(volume.path, "file").write_text("half")
    Path(volume.path).with_name("filling").touch()
    store.fill(volume, image, "/data")
    assert Path(volume.path, "file").read_text() == "from the image"
    assert not Path(volume.path).with_name("filling").exists()


def test_what_is_known_of_a_volume(store: VolumeStore) -> None:
    made = store.create("db", labels=(("a", "b"),))
    assert store.get("db").labels == {"a": "b"}
    assert store.create("db").created == store.get("db").created
    nameless = store.create()
    assert nameless.anonymous and len(nameless.name) == 64
    assert [v.name for v in store.list()] == sorted(["db", nameless.name])
    assert made.path.endswith("/db/data")


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "-x"])
def test_what_is_no_name_is_refused(store: VolumeStore, name: str) -> None:
    with pytest.raises(UsageError, match="no name for a volume"):
        store.create(name)
    with pytest.raises(NotFoundError):
        store.get(name)


def test_a_volume_in_use_stays(store: VolumeStore) -> None:
    store.create("db")
    with pytest.raises(PybuildError, match="in use by web"):
        store.remove("db", lambda: ["web"])
    store.remove("db", list)
    assert store.list() == []
    with pytest.raises(NotFoundError):
        store.remove("db", list)


def test_a_directory_of_the_host_as_a_volume(store: VolumeStore, tmp_path: Path) -> None:
    options = (("type", "none"), ("o", "bind"), ("device", str(tmp_path)))
    assert store.create("here", options=options).path == str(tmp_path)
    assert store.get("here").path == str(tmp_path)
    for wrong in (
        (("type", "nfs"), ("o", "addr=1.2.3.4")),
        (("type", "none"), ("o", "bind"), ("device", "/no")),
    ):
        with pytest.raises(UsageError):
            store.create("other", options=wrong)


def test_anonymous_volumes_get_names(store: VolumeStore, image: DirTree, tmp_path: Path) -> None:
    given = (MountSpec("volume", "/data"), MountSpec("volume", "/elsewhere"), MountSpec("volume", "/x", "db"))
    mounts, names = named(given)
    assert [m.source for m in mounts] == [*names, "db"]
    assert len({*names}) == 2
    two = mounted(store, image, mounts[1])
    assert os.listdir(two.source) == []
    assert os.path.isdir(store.discard(names[1]))
    assert not os.path.exists(two.source)
    store.collect_trash()
    assert not list((tmp_path / "store" / "volumes").glob(".trash-*"))
    assert store.list() == []


def test_a_missing_host_directory_is_made_for_v_alone(
    store: VolumeStore, image: DirTree, tmp_path: Path
) -> None:
    place = str(tmp_path / "new" / "dir")
    with pytest.raises(PybuildError, match="there is no"):
        mounted(store, image, MountSpec("bind", "/mnt", place))
    mount = mounted(store, image, MountSpec("bind", "/mnt", place, options=(("bind-create-src", ""),)))
    assert mount.kind == "bind"
    assert os.path.isdir(place)


def test_a_host_file_is_mounted_as_it_is_and_a_link_by_its_target(
    store: VolumeStore, image: DirTree, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    assert mounted(store, image, MountSpec("bind", "/f", str(tmp_path / "link"))).source.endswith("/file")
    below = MountSpec("bind", "/f", str(tmp_path / "file" / "below"), options=(("bind-create-src", ""),))
    with pytest.raises(PybuildError, match="cannot make the directory"):
        mounted(store, image, below)


def test_tmpfs_options(store: VolumeStore, image: DirTree) -> None:
    asked = (("size", "64k"), ("mode", "700"), ("uid", "5"))
    mount = mounted(store, image, MountSpec("tmpfs", "/t", options=asked))
    assert (mount.kind, mount.size, mount.mode, mount.uid, mount.noexec) == ("tmpfs", 65536, 0o700, 5, True)
    assert not mounted(store, image, MountSpec("tmpfs", "/t", options=(("exec", ""),))).noexec


@pytest.mark.parametrize(
    ("kind", "option", "words"),
    [
        ("bind", ("rshared", ""), "propagation 'rshared'"),
        ("bind", ("bind-propagation", "slave"), "propagation 'slave'"),
        ("bind", ("nonsense", ""), "unknown option 'nonsense'"),
        ("tmpfs", ("nonsense", ""), "unknown option 'nonsense'"),
    ],
)
def test_options_that_cant_be_done(
    store: VolumeStore, image: DirTree, kind: str, option: tuple[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        mounted(store, image, MountSpec(kind, "/t", "/", options=(option,)))  # type: ignore[arg-type]


def test_declared_volumes_become_anonymous_ones_unless_mounted() -> None:
    config: dict[str, object] = {"Volumes": {"/a": {}, "/b/": {}}}
    assert image_volumes(config, [MountSpec("bind", "/b", "/x")]) == (MountSpec("volume", "/a"),)
    assert image_volumes({}, []) == ()


def test_links_that_are_put_in_the_way_while_a_volume_is_filled(
    store: VolumeStore, image: DirTree, tmp_path: Path
) -> None:
    """Another container that has the volume does it: nothing is written outside."""
    (tmp_path / "image" / "data" / "sub" / "planted").write_text("from the image")
    outside = tmp_path / "outside"
    outside.mkdir()
    data = Path(store.create("db").path)

    class Hostile(DirTree):
        def walk(self, path: str) -> Iterator[Entry]:
            for entry in super().walk(path):
                if entry.path.endswith("planted"):
                    (data / "sub").rmdir()
                    (data / "sub").symlink_to(outside)
                yield entry

    with pytest.raises(PybuildError):
        mounted(store, Hostile(image.root), MountSpec("volume", "/data", "db"))
    assert list(outside.iterdir()) == []
