from __future__ import annotations

import pytest

from buildkit_py.sandbox import layout
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec

SPEC = SandboxSpec((), "", "", ("true",), (), hosts="h\n", resolv_conf="r\n")


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/a/b", "/a/b"),
        ("//a//b/", "/a/b"),
        ("/a/../../b", "/b"),
        ("a", "/a"),
        ("/", "/"),
        ("", "/"),
        ("/..", "/"),
    ],
)
def test_normal(path: str, clean: str) -> None:
    assert layout.normal(path) == clean


def test_outer_mounts_come_first() -> None:
    spec = SPEC._replace(
        hosts="",
        resolv_conf="",
        mounts=(SandboxMount("tmpfs", "/a/b/c"), SandboxMount("tmpfs", "/x"), SandboxMount("tmpfs", "/a/b")),
    )
    assert [m.target for m in layout.mounts(spec)] == ["/x", "/a/b", "/a/b/c"]


def test_hosts_and_resolv_conf_are_files() -> None:
    made = layout.mounts(SPEC)
    assert [(m.kind, m.target, m.data) for m in made] == [
        ("file", "/etc/hosts", b"h\n"),
        ("file", "/etc/resolv.conf", b"r\n"),
    ]


def test_hostname_is_a_file_of_containers() -> None:
    made = layout.mounts(SPEC._replace(hostname_file="name\n"))
    assert [(m.target, m.data) for m in made][-1] == ("/etc/hostname", b"name\n")


def test_a_mount_of_ones_own_replaces_hosts() -> None:
    spec = SPEC._replace(mounts=(SandboxMount("bind", "/etc//hosts", source="/x"),))
    assert [m.kind for m in layout.mounts(spec)] == ["bind", "file"]


def test_places_of_a_plain_run() -> None:
    assert layout.places(layout.mounts(SPEC), frozenset()) == layout.BASE_PLACES


def test_places_of_mounts() -> None:
    mounts = (
        SandboxMount("tmpfs", "/t/u"),
        SandboxMount("bind", "/b/file", source="/x"),
        SandboxMount("bind", "/b/folder", source="/y"),
        SandboxMount("tmpfs", "/dev/shm"),
    )
    assert dict(layout.places(mounts, frozenset({"/b/folder"}))) == {
        "/dev": True,
        "/proc": True,
        "/sys": True,
        "/b": True,
        "/b/file": False,
        "/b/folder": True,
        "/t": True,
        "/t/u": True,
    }


def test_a_parent_of_a_mount_is_a_folder() -> None:
    mounts = (SandboxMount("file", "/a"), SandboxMount("file", "/a/b"))
    assert dict(layout.places(mounts, frozenset()))["/a"] is True
