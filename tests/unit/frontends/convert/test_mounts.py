"""RUN --mount."""

from __future__ import annotations

import pytest

from buildkit_py.llb.ops import Exec, ImageSource, InlineSource, LocalSource, Mount
from tests.unit.frontends.convert.building import Builder

CACHE = Mount("cache", "/c", id="/c", readonly=False)
SECRET = Mount("secret", "/run/secrets/s", id="s")


@pytest.mark.parametrize(
    ("value", "mount"),
    [
        ("target=/x", Mount("bind", "/x", 1)),
        ("type=bind,dst=/x", Mount("bind", "/x", 1)),
        ("destination=x", Mount("bind", "/base/x", 1)),
        ("target=/x,source=a/b", Mount("bind", "/x", 1, source="/a/b")),
        ("target=/x,src=/a/../../b/", Mount("bind", "/x", 1, source="/b")),
        ("target=/x,rw", Mount("bind", "/x", 1, readonly=False)),
        ("target=/x,readwrite=true", Mount("bind", "/x", 1, readonly=False)),
        ("target=/x,rw=false", Mount("bind", "/x", 1)),
        ("target=/x,ro", Mount("bind", "/x", 1)),
        ("target=/x,ro=0", Mount("bind", "/x", 1, readonly=False)),
        ("'\"target=/a,b\"'", Mount("bind", "/a,b", 1)),
        ("TARGET=/x", Mount("bind", "/x", 1)),
        ("type=cache,target=/c", CACHE),
        ("type=cache,target=/c/../c/", CACHE._replace(id="/c")),
        ("type=cache,target=c", CACHE._replace(id="c", target="/base/c")),
        ("type=cache,target=/c,id=i", CACHE._replace(id="i")),
        ("type=cache,target=/c,sharing=locked", CACHE._replace(sharing="locked")),
        ("type=cache,target=/c,sharing=private", CACHE._replace(sharing="private")),
        ("type=cache,target=/c,mode=0700,uid=1,gid=2", CACHE._replace(mode=0o700, uid=1, gid=2)),
        ("type=cache,target=/c,ro", CACHE._replace(readonly=True)),
        ("type=cache,target=/c,source=/s", CACHE._replace(source="/s")),
        ("type=cache,target=/c,from=image", CACHE._replace(input=1)),
        ("type=tmpfs,target=/t", Mount("tmpfs", "/t", readonly=False)),
        ("type=tmpfs,target=/t,size=10m", Mount("tmpfs", "/t", readonly=False, size=10 << 20)),
        ("type=tmpfs,target=/t,size=1.5GiB", Mount("tmpfs", "/t", readonly=False, size=3 << 29)),
        ("type=tmpfs,target=/t,size=4096", Mount("tmpfs", "/t", readonly=False, size=4096)),
        ("type=secret,id=s", SECRET),
        ("type=secret,id=a/s", SECRET._replace(id="a/s")),
        ("type=secret,target=/x/s", SECRET._replace(target="/x/s")),
        ("type=secret,id=s,target=x", SECRET._replace(target="/base/x")),
        ("type=secret,id=s,env=E", SECRET._replace(target="", env="E")),
        ("type=secret,id=s,env=E,target=/x", SECRET._replace(target="/x", env="E")),
        ("type=secret,id=s,required", SECRET._replace(required=True)),
        ("type=secret,id=s,required=false", SECRET),
        ("type=secret,id=s,mode=0444,uid=3,gid=4", SECRET._replace(mode=0o444, uid=3, gid=4)),
        ("type=cache,target=/$V,id=$V-x", CACHE._replace(target="/v", id="v-x")),
        ("type=$T,target=/c", CACHE),
        ("type=cache,target=/c,uid=$N", CACHE._replace(uid=7)),
    ],
)
def test_mount(build: Builder, value: str, mount: Mount) -> None:
    built = build(f"FROM base\nARG V=v T=cache N=7\nRUN --mount={value} x\n")
    assert built.ops(Exec)[0].mounts == (mount,)


@pytest.mark.parametrize(
    "value",
    [
        "type=nope,target=/x",
        "type=bind",
        "type=cache",
        "type=tmpfs",
        "type=secret",
        "target=/",
        "target=..",
        "target=/x,what=1",
        "target=/x,ro=maybe",
        "target=/x,size=1",
        "target=/x,sharing=locked",
        "target=/x,required",
        "type=cache,target=/c,sharing=often",
        "type=cache,target=/c,mode=9",
        "type=cache,target=/c,mode=17777",
        "type=cache,target=/c,uid=x",
        "type=cache,target=/c,uid=4294967296",
        "type=cache,target=/c,uid=$U",
        "type=tmpfs,target=/t,size=big",
        "type=tmpfs,target=/t,from=image",
        "type=secret,id=s,from=image",
        "type=$U,target=/c,required",
        "target",
        "'\"target=/x'",
        "target=$NOTHING",
        "from=,target=/x",
    ],
)
def test_bad_mount(build: Builder, value: str) -> None:
    error = build.error(f"FROM base\nARG U=q\nRUN --mount={value} x\n")
    assert error.start == 3


def test_several(build: Builder) -> None:
    built = build(
        "FROM base AS b\nRUN y\nFROM image\n"
        "RUN --mount=target=/ctx --mount=from=b,target=/b --mount=type=cache,target=/c "
        "--mount=from=image2,target=/i x\n"
    )
    op = built.ops(Exec)[-1]
    assert [(m.target, m.input) for m in op.mounts] == [("/ctx", 1), ("/b", 2), ("/c", -1), ("/i", 3)]
    kinds = [type(built.result.graph.nodes[i].op) for i in built.root.inputs]
    assert kinds == [ImageSource, LocalSource, Exec, ImageSource]
    assert "target /x" in build.error("FROM base\nRUN --mount=target=/x --mount=dst=/x y\n").message


def test_on_scratch(build: Builder) -> None:
    built = build('FROM scratch\nRUN --mount=from=image,target=/i ["/i/x"]\n')
    op = built.ops(Exec)[0]
    assert op.base is False
    assert op.mounts[0].input == 0


def test_from_scratch_is_empty(build: Builder) -> None:
    built = build("FROM base\nRUN --mount=from=scratch,target=/i x\n")
    assert built.ops(InlineSource) == [InlineSource(())]


def test_name_space_of_caches(build: Builder) -> None:
    built = build(
        "FROM base\nRUN --mount=type=cache,target=/c x\n", build_args={"BUILDKIT_CACHE_MOUNT_NS": "ns"}
    )
    assert built.ops(Exec)[0].mounts[0].id == "ns//c"


def test_ssh(build: Builder) -> None:
    built = build("FROM base\nRUN --mount=type=ssh --mount=type=ssh,id=k,mode=0666,required x\n")
    assert built.ops(Exec)[0].mounts == (
        Mount("ssh", "/run/buildkit/ssh_agent.0", id="default"),
        Mount("ssh", "/run/buildkit/ssh_agent.1", id="k", mode=0o666, required=True),
    )
