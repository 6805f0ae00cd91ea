"""The build graph: nodes, edges, names."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.errors import UsageError
from buildkit_py.frontends.dockerfile.convert import ConvertOptions, convert
from buildkit_py.frontends.dockerfile.parser import parse
from buildkit_py.llb.ops import Copy, Exec, File, ImageSource, InlineSource, LocalSource, Merge, Mkdir
from tests.unit.frontends.convert.building import Builder, FakeImages


def test_run_over_an_image(build: Builder) -> None:
    built = build("FROM base\nRUN make\n")
    image, run = built.nodes
    assert image.op == ImageSource("docker.io/library/base:latest", image.op.digest, "linux/amd64")  # type: ignore[union-attr]
    assert run.inputs == (image.digest,)
    assert run.op == Exec(
        args=("/bin/sh", "-c", "make"),
        env=("PATH=/base/bin", "FROM_BASE=yes"),
        cwd="/base",
        platform="linux/amd64",
    )
    assert built.target.root == run.digest
    assert (run.meta.path, run.meta.start, run.meta.end) == ("Dockerfile", 2, 2)


def test_run_takes_the_stage_s_state(build: Builder) -> None:
    built = build(
        'FROM base\nUSER u:g\nWORKDIR /w\nENV E=1\nARG A=2\nARG N\nSHELL ["/bin/x", "-c"]\nRUN a\n',
        network="none",
        hostname="h",
        extra_hosts=(("a", "1.2.3.4"),),
        shm_size=5,
        ulimits=(("nofile", 1, 2),),
    )
    (op,) = built.ops(Exec)
    assert op == Exec(
        args=("/bin/x", "-c", "a"),
        env=("PATH=/base/bin", "FROM_BASE=yes", "E=1", "A=2"),
        cwd="/w",
        user="u:g",
        network="none",
        hostname="h",
        extra_hosts=(("a", "1.2.3.4"),),
        shm_size=5,
        ulimits=(("nofile", 1, 2),),
        platform="linux/amd64",
    )


def test_run_on_scratch(build: Builder) -> None:
    built = build('FROM scratch\nRUN ["/x"]\n')
    assert built.root.inputs == ()
    assert built.ops(Exec)[0].base is False


def test_copy_from_the_context(build: Builder) -> None:
    built = build("FROM base\nCOPY a b/\n", ignore=("x", "!y"))
    image, local, copy = built.nodes
    assert local.op == LocalSource("context", ("x", "!y"))
    assert local.meta.name == "[internal] load build context"
    assert copy.inputs == (image.digest, local.digest)
    assert copy.op == File((Copy(1, ("a",), "/base/b/"),))


def test_copy_onto_scratch(build: Builder) -> None:
    built = build("FROM scratch\nCOPY . .\n")
    local, copy = built.nodes
    assert copy.op == File((Copy(0, (".",), "/"),), base=False)
    assert copy.inputs == (local.digest,)


@pytest.mark.parametrize(
    ("dest", "absolute"),
    [
        ("x", "/base/x"),
        ("x/", "/base/x/"),
        (".", "/base/"),
        ("./", "/base/"),
        ("..", "/"),
        ("x/.", "/base/x/"),
        ("/", "/"),
        ("/x", "/x"),
        ("/x//y/../z", "/x/z"),
        ("../../../x", "/x"),
        ("//x/", "/x/"),
    ],
)
def test_destination(build: Builder, dest: str, absolute: str) -> None:
    (file,) = build(f"FROM base\nCOPY a {dest}\n").ops(File)
    assert file.actions[0].dest == absolute


def test_copy_flags(build: Builder) -> None:
    text = (
        "FROM base\nARG U=me\nARG M=u=rwX,go=rX\n"
        "COPY --chown=$U:g --chmod=$M --parents --exclude=*.txt --exclude=$U a b /d/\n"
    )
    (file,) = build(text).ops(File)
    assert file.actions == (
        Copy(1, ("a", "b"), "/d/", chown="me:g", chmod="u=rwX,go=rX", parents=True, exclude=("*.txt", "$U")),
    )


@pytest.mark.parametrize(
    "mode", ["0", "644", "0755", "7777", "07777", "+x", "u=rwX,go=rX", "g=u", "a-w+x", "u+s"]
)
def test_chmod(build: Builder, mode: str) -> None:
    (file,) = build(f"FROM base\nCOPY --chmod={mode} a /b\n").ops(File)
    assert file.actions[0].chmod == (mode.lstrip("0") or "0")


@pytest.mark.parametrize("mode", ["8", "17777", "99", "x", "u", "u=q", "rwx", "u=r,", "0x1f", "-1"])
def test_bad_chmod(build: Builder, mode: str) -> None:
    assert "is not a mode" in build.error(f"FROM base\nCOPY --chmod={mode} a /b\n").message


@pytest.mark.parametrize("owner", [":g", "a:b:c"])
def test_bad_chown(build: Builder, owner: str) -> None:
    assert "user[:group]" in build.error(f"FROM base\nCOPY --chown={owner} a /b\n").message


def test_copy_words_are_expanded_but_not_cut_again(build: Builder) -> None:
    (file,) = build("FROM base\nENV A='x y' B=/d\nCOPY $A \"$B\" /z/\n").ops(File)
    assert file.actions[0].sources == ("x y", "/d")


def test_copy_of_nothing_is_the_root(build: Builder) -> None:
    (file,) = build("FROM base\nCOPY $A $B\n").ops(File)
    assert file.actions == (Copy(1, ("/",), "/base/"),)


def test_copy_json_form(build: Builder) -> None:
    (file,) = build('FROM base\nENV A=1\nCOPY ["a b", "$A", "/d d/"]\n').ops(File)
    assert file.actions[0].sources == ("a b", "1")
    assert file.actions[0].dest == "/d d/"


def test_copy_link(build: Builder) -> None:
    built = build("FROM base\nCOPY --link a /b\n")
    image, local, copy, merge = built.nodes
    assert copy.op == File((Copy(0, ("a",), "/b"),), base=False)
    assert copy.inputs == (local.digest,)
    assert merge.op == Merge()
    assert merge.inputs == (image.digest, copy.digest)
    assert built.target.root == merge.digest


def test_copy_link_on_scratch_needs_no_merge(build: Builder) -> None:
    built = build("FROM scratch\nCOPY --link a /b\n")
    assert built.ops(Merge) == []
    assert isinstance(built.root.op, File)


def test_copy_link_with_a_name_depends_on_the_base(build: Builder) -> None:
    """A user's name can only be read from the root file system below."""
    built = build("FROM base\nCOPY --link --chown=app a /b\n")
    assert built.ops(Merge) == []
    assert build("FROM base\nCOPY --link --chown=1:2 a /b\n").ops(Merge)


def test_copy_heredocs(build: Builder) -> None:
    built = build("FROM base\nENV X=1\nCOPY <<A <<'B' /d/\n$X \"q\" \\$X\nA\n$X\nB\n")
    (inline,) = built.ops(InlineSource)
    assert inline.files == (("A", '1 "q" $X\n', 0o644), ("B", "$X\n", 0o644))
    assert built.ops(File)[0].actions == (Copy(1, ("A", "B"), "/d/"),)
    assert built.ops(LocalSource) == []


def test_copy_heredoc_beside_files(build: Builder) -> None:
    built = build("FROM base\nCOPY a <<E b /d/\nx\nE\n")
    assert built.ops(File)[0].actions == (Copy(1, ("a", "b"), "/d/"), Copy(2, ("E",), "/d/"))


@pytest.mark.parametrize(
    "text", ["COPY a <<E /d\nx\nE", "COPY <<E <<E /d/\nx\nE\ny\nE", "COPY <<a/b /d/\nx\na/b"]
)
def test_bad_copy_heredoc(build: Builder, text: str) -> None:
    build.error(f"FROM base\n{text}\n")


@pytest.mark.parametrize(
    ("flag", "unpack"),
    [("", "auto"), ("--unpack ", "auto"), ("--unpack=true ", "auto"), ("--unpack=false ", "never")],
)
def test_add(build: Builder, flag: str, unpack: str) -> None:
    (file,) = build(f"FROM base\nADD {flag}a.tar /b\n").ops(File)
    assert file.actions == (Copy(1, ("a.tar",), "/b", unpack=unpack),)  # type: ignore[arg-type]


def test_workdir(build: Builder) -> None:
    built = build("FROM base\nUSER u\nWORKDIR x\n")
    assert built.root.op == File((Mkdir("/base/x", user="u"),))
    assert build("FROM scratch\nWORKDIR /x\n").root.op == File((Mkdir("/x"),), base=False)


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("RUN <<E\na\nb\nE", ("/bin/sh", "-c", "a\nb\n")),
        ("RUN <<'E'\n$a\nE", ("/bin/sh", "-c", "$a\n")),
        ("RUN <<-E\n\ta\n\tE", ("/bin/sh", "-c", "a\n")),
        ("RUN <<E bash -x\na\nE", ("/bin/sh", "-c", "<<E bash -x\na\nE")),
        ("RUN cat <<A <<B\na\nA\nb\nB", ("/bin/sh", "-c", "cat <<A <<B\na\nA\nb\nB")),
        ("RUN 3<<E\na\nE", ("/bin/sh", "-c", "3<<E\na\nE")),
        ("RUN cat <<E > $X\n#!/bin/x\nE", ("/bin/sh", "-c", "cat <<E > $X\n#!/bin/x\nE")),
    ],
)
def test_run_heredoc(build: Builder, text: str, args: tuple[str, ...]) -> None:
    (op,) = build(f"FROM base\n{text}\n").ops(Exec)
    assert op.args == args
    assert op.mounts == ()


def test_run_script(build: Builder) -> None:
    built = build("FROM base\nRUN <<E\n#!/usr/bin/env python3\nprint($x)\nE\n")
    (inline,) = built.ops(InlineSource)
    assert inline.files == (("E", "#!/usr/bin/env python3\nprint($x)\n", 0o755),)
    (op,) = built.ops(Exec)
    assert op.args == ("/dev/pipes/E",)
    (mount,) = op.mounts
    assert (mount.kind, mount.target, mount.source, mount.readonly) == ("bind", "/dev/pipes/E", "/E", True)
    assert built.root.inputs[mount.input] == next(
        n.digest for n in built.nodes if isinstance(n.op, InlineSource)
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("FROM base\nRUN a\n", ["[1/2] FROM docker.io/library/base:latest", "[2/2] RUN a"]),
        ("FROM base AS b\nRUN a\n", ["[b 1/2] FROM docker.io/library/base:latest", "[b 2/2] RUN a"]),
        (
            "FROM base AS b\nFROM scratch\nCOPY --from=b /x /\n",
            ["[b 1/1] FROM docker.io/library/base:latest", "[stage-1 1/1] COPY --from=b /x /"],
        ),
        ("FROM scratch\nworkdir   /x\n", ["[1/1] WORKDIR /x"]),
        (
            "FROM base\n" + "RUN a\n" * 9,
            ["[ 1/10] FROM docker.io/library/base:latest"] + [f"[{i:>2}/10] RUN a" for i in range(2, 3)],
        ),
        (
            "FROM base\nRUN <<E\na\nb\nE\n",
            ["[1/2] FROM docker.io/library/base:latest", "[2/2] RUN <<E (a...)"],
        ),
        ("FROM base\nRUN a \\\n  && b\n", ["[1/2] FROM docker.io/library/base:latest", "[2/2] RUN a   && b"]),
    ],
)
def test_names(build: Builder, text: str, names: list[str]) -> None:
    assert build(text).names[: len(names)] == names


def test_equal_steps_are_one_node(build: Builder) -> None:
    built = build(
        "FROM base AS a\nRUN x\nFROM base AS b\nRUN x\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n"
    )
    assert len(built.ops(Exec)) == 1


def test_no_cache(build: Builder) -> None:
    text = "FROM base AS a\nRUN x\nFROM base AS b\nRUN y\nCOPY --from=a / /\n"
    assert [n.meta.no_cache for n in build(text, no_cache=True).nodes if isinstance(n.op, Exec)] == [
        True,
        True,
    ]
    only = build(text, no_cache_filter=("A",))
    assert {n.meta.name: n.meta.no_cache for n in only.nodes if isinstance(n.op, Exec)} == {
        "[a 2/2] RUN x": True,
        "[b 2/3] RUN y": False,
    }


def test_names_and_places_are_no_identity(build: Builder) -> None:
    one = build("FROM base\nRUN x\n")
    two = build("# note\n\nFROM base AS other\n\nRUN x\n")
    assert one.target.root == two.target.root


def test_devices_are_to_be_allowed(build: Builder) -> None:
    text = "FROM base\nRUN --device=a/b=c,required x\n"
    error = build.error(text)
    assert error.start == 2
    assert "--allow device=a/b=c" in error.hint
    for allow in ("device", "device=a/b=c"):
        (op,) = build(text, allow=(allow,)).ops(Exec)
        assert op.devices == ("a/b=c,required",)


def test_several_platforms(build: Builder) -> None:
    text = b"FROM base AS one\nRUN x\nFROM scratch\nCOPY --from=one /a /\n"
    options = ConvertOptions(platforms=("linux/amd64", "linux/arm64"))
    result = convert(parse(text, "Dockerfile"), options, FakeImages({}))
    assert [target.platform for target in result.targets] == ["linux/amd64", "linux/arm64"]
    names = [node.meta.name for node in result.graph.nodes.values()]
    assert [name for name in names if name.endswith("RUN x")] == [
        "[linux/amd64 one 2/2] RUN x",
        "[linux/arm64 one 2/2] RUN x",
    ]
    with pytest.raises(UsageError):
        build("FROM scratch\n", platforms=("a/b/c/d",))
    build("FROM scratch\n", platforms=("linux/amd64", "amd64"))


@pytest.mark.parametrize(
    ("options", "text", "network"),
    [
        ({}, "RUN x", "default"),
        ({"network": "none"}, "RUN x", "none"),
        ({"network": "none"}, "RUN --network=default x", "default"),
        ({}, "RUN --network=none x", "none"),
        ({"allow": ("network.host",)}, "RUN --network=host x", "host"),
        ({"network": "host"}, "RUN x", "host"),
    ],
)
def test_network(build: Builder, options: dict[str, Any], text: str, network: str) -> None:
    (op,) = build(f"FROM base\n{text}\n", **options).ops(Exec)
    assert op.network == network


def test_network_host_needs_to_be_allowed(build: Builder) -> None:
    error = build.error("FROM base\nRUN --network=host x\n")
    assert "--allow network.host" in error.hint


def test_proxy_variables_stay_out_of_identity(build: Builder) -> None:
    text = "FROM base\nRUN x\n"
    plain = build(text)
    proxied = build(text, build_args={"http_proxy": "http://p"}, proxy={"HTTP_PROXY": "http://q"})
    assert proxied.target.root == plain.target.root
    assert proxied.root.meta.secret_env == ("HTTP_PROXY=http://q", "http_proxy=http://p")
    assert "proxy" not in str(proxied.document)


def test_declared_proxy_is_an_arg(build: Builder) -> None:
    built = build("FROM base\nARG http_proxy\nRUN x\n", build_args={"http_proxy": "http://p"})
    assert "http_proxy=http://p" in built.ops(Exec)[0].env
    assert built.root.meta.secret_env == ()
    assert "|1 http_proxy=http://p" in built.history[-1]


def test_no_short_file_asks_for_gigabytes(build: Builder) -> None:
    assert "history" in build.error("FROM scratch\n" + "EXPOSE 0-65535\n" * 200).message
    doubled = "ENV A=xxxxxxxxxxxxxxxx\n" + "ENV A=$A$A\n" * 13
    assert "history" in build.error("FROM scratch\n" + doubled + "ENV B=$A\n" * 600).message


def test_the_name_of_a_step(build: Builder) -> None:
    assert "[2/2] RUN echo\ta" in build("FROM base\nrun\techo\ta\n").names
