"""From a command line to a request."""

from __future__ import annotations

import pytest

from buildkit_py.cli import fast, table
from buildkit_py.cli.build import translate as build
from buildkit_py.cli.command import Args
from buildkit_py.cli.container_options import translate as run
from buildkit_py.errors import UsageError
from buildkit_py.request import (
    BuildRequest,
    Isolation,
    Limits,
    MountSpec,
    Networking,
    NetworkSpec,
    Output,
    RunRequest,
)


def args(line: str) -> Args:
    name, _, rest = line.partition(" ")
    parsed = fast.parse(table.load(name), rest.split())
    assert parsed is not None
    return parsed


def test_a_plain_build() -> None:
    assert build(args("build .")) == BuildRequest(".")


def test_a_build_with_everything() -> None:
    request = build(
        args(
            "build -t a:1 --tag=b -f D --target t --build-arg A=1 --label k=v"
            " --platform linux/amd64,linux/arm64 --no-cache --no-cache-filter x,y --pull --network none"
            " --build-context n=../d --add-host h:1.2.3.4"
            " --shm-size 1m --ulimit nofile=5 --allow network.host --push --load -o out --call check ctx"
        )
    )
    assert request == BuildRequest(
        "ctx",
        file="D",
        tags=("a:1", "b"),
        target="t",
        build_args=(("A", "1"),),
        labels=(("k", "v"),),
        platforms=("linux/amd64", "linux/arm64"),
        no_cache=True,
        no_cache_filter=("x", "y"),
        pull=True,
        network="none",
        build_contexts=(("n", "../d"),),
        extra_hosts=(("h", "1.2.3.4"),),
        shm_size=1 << 20,
        ulimits=(("nofile", 5, 5),),
        outputs=(Output("local", (("dest", "out"),)), Output("image", (("push", "true"),)), Output("docker")),
        allow=("network.host",),
        call="check",
    )
    assert build(args("build --check .")).call == "check"
    with pytest.raises(UsageError, match="stdout"):
        build(args("build -o - -o type=oci,dest=- ."))


def test_a_plain_run() -> None:
    assert run(args("run image")) == RunRequest("image")


def test_a_run_with_everything() -> None:
    request = run(
        args(
            "run --rm -it -e A=1 -e B=2 -v /a:/b:ro --tmpfs /t -w /w -u 1:2 --entrypoint sh --name n"
            " --network none -h host --read-only --pull never --shm-size 1m image -c true"
        )
    )
    assert request == RunRequest(
        "image",
        ("-c", "true"),
        ("sh",),
        env=(("A", "1"), ("B", "2")),
        mounts=(MountSpec("bind", "/b", "/a", True, (("bind-create-src", ""),)), MountSpec("tmpfs", "/t")),
        workdir="/w",
        user="1:2",
        name="n",
        interactive=True,
        terminal=True,
        remove=True,
        pull="never",
        networking=Networking((NetworkSpec("none"),), "host"),
        isolation=Isolation(readonly=True),
        limits=Limits(1 << 20),
    )
    assert run(args("run --entrypoint= image")).entrypoint == ()
    with pytest.raises(UsageError, match="same target /b"):
        run(args("run -v /a:/b --tmpfs /b/ image"))


def test_domains_to_search() -> None:
    assert run(args("run --dns-search a.example --dns-search . image")).networking.dns_search == (
        "a.example",
        ".",
    )
    with pytest.raises(UsageError, match="'' is not a domain"):
        run(args("run --dns-search= image"))


def test_a_mount_and_all_its_keys() -> None:
    def mount(text: str) -> MountSpec:
        return run(args(f"run --mount {text} image")).mounts[0]

    assert mount("type=bind,src=/a,dst=/b,readonly=true") == MountSpec("bind", "/b", "/a", True)
    assert mount("type=bind,src=/a,dst=/b,ro=0") == MountSpec("bind", "/b", "/a")
    left_out = MountSpec("bind", "/b", "/a", False, (("bind-recursive", "disabled"),))
    assert mount("type=bind,src=/a,dst=/b,bind-nonrecursive") == left_out
    assert mount("type=bind,src=/a,dst=/b,bind-recursive=disabled") == left_out
    assert mount("src=v,dst=/b,volume-nocopy=false") == MountSpec("volume", "/b", "v")
    options = (("volume-label", "a=b"), ("volume-opt", "type=none"), ("volume-opt", "o=bind"))
    assert mount("src=v,volume-label=a=b,volume-opt=type=none,volume-opt=o=bind,dst=/b") == MountSpec(
        "volume", "/b", "v", False, options
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bind,src=/a,dst=/b,readonly=foo", "'readonly=foo' is neither true nor false"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "'volume-nocopy' is for type=volume"),
        ("type=bind,src=/a,dst=/b,volume-opt=a=b", "'volume-opt' is for type=volume"),
        ("type=volume,src=a,dst=/b,bind-propagation=rprivate", "'bind-propagation' is for type=bind"),
        ("type=tmpfs,dst=/b,volume-nocopy", "'volume-nocopy' is for type=volume"),
        ("type=bind,src=/a,dst=/b,bind-recursive=foo", "bind-recursive=foo is not known"),
        ("type=bind,src=/a,dst=/b,bind-recursive=writable", "bind-recursive=writable needs readonly"),
        ("type=volume,src=a,src=b,dst=/b", "'src' is given twice"),
    ],
)
def test_a_mount_with_a_wrong_key(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(args(f"run --mount {text} image"))
