"""Stages as a graph: references, reachability, named contexts, ONBUILD."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.errors import DockerfileError, NotFoundError, RegistryError
from buildkit_py.frontends.dockerfile.convert import ConvertOptions, convert
from buildkit_py.frontends.dockerfile.parser import parse
from buildkit_py.llb.ops import Exec, File, GitSource, HttpSource, ImageSource, InlineSource, LocalSource
from buildkit_py.llb.result import ResolvedImage
from tests.unit.frontends.convert.building import Builder, Built


def _asked(built: Built) -> list[str]:
    return [ref for ref, _ in built.images.asked]


@pytest.mark.parametrize(
    ("text", "target", "asked"),
    [
        ("FROM image1\nFROM image2\n", "", ["image2"]),
        ("FROM image1 AS a\nFROM image2\n", "a", ["image1"]),
        ("FROM image1 AS a\nFROM image2\n", "A", ["image1"]),
        ("FROM image1 AS a\nFROM image2\n", "0", ["image1"]),
        ("FROM image1 AS a\nFROM image2 AS A\n", "a", ["image2"]),
        ("FROM image1 AS a\nFROM a\n", "", ["image1"]),
        ("FROM image1 AS a\nFROM A\n", "", ["image1"]),
        ("FROM image1 AS image1\n", "", ["image1"]),
        ("FROM image2\nFROM image1 AS image2\n", "0", ["image2"]),
        ("FROM image1 AS a\nFROM image2 AS a\nFROM a\n", "", ["image2"]),
        ("FROM image1 AS a\nFROM image2\nCOPY --from=a / /\n", "", ["image1", "image2"]),
        ("FROM image1 AS a\nFROM image2\nCOPY --from=0 / /\n", "", ["image1", "image2"]),
        ("FROM image1 AS a\nFROM image2\nCOPY --from=A / /\n", "", ["image1", "image2"]),
        ("FROM image2\nCOPY --from=b / /\nFROM image1 AS b\n", "0", ["image2", "image1"]),
        ("FROM image2\nCOPY --from=image3 / /\n", "", ["image2", "image3"]),
        ("FROM image1 AS a\nFROM image2 AS b\nFROM image3\nCOPY --from=b / /\n", "", ["image2", "image3"]),
        ("FROM image1 AS x\nFROM image1\nCOPY --from=x / /\n", "", ["image1"]),
        ("FROM image2\nRUN --mount=from=image3,target=/x y\n", "", ["image2", "image3"]),
        ("FROM image1 AS a\nFROM image2\nRUN --mount=from=a,target=/x y\n", "", ["image2", "image1"]),
    ],
)
def test_only_what_the_target_needs(build: Builder, text: str, target: str, asked: list[str]) -> None:
    assert sorted(_asked(build(text, target=target))) == sorted(asked)


def test_copy_from_a_stage(build: Builder) -> None:
    built = build("FROM base AS b\nWORKDIR /w\nRUN make\nFROM scratch\nCOPY --from=b out /x/\n")
    (run,) = [n for n in built.nodes if isinstance(n.op, Exec)]
    assert built.root.inputs == (run.digest,)
    assert isinstance(built.root.op, File)
    (copy,) = built.root.op.actions
    assert copy == copy._replace(keep_owner=True, dest="/x/", sources=("out",), input=0)  # type: ignore[call-arg]


def test_copy_from_an_image(build: Builder) -> None:
    built = build("FROM base\nCOPY --from=image /a /b\n")
    sources = built.ops(ImageSource)
    assert [s.ref for s in sources] == ["docker.io/library/base:latest", "docker.io/library/image:latest"]
    assert "FROM docker.io/library/image:latest" in built.names


def test_copy_from_an_empty_stage(build: Builder) -> None:
    built = build("FROM scratch AS e\nFROM base\nCOPY --from=e / /x\n")
    assert built.ops(InlineSource) == [InlineSource(())]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("FROM base AS a\nCOPY --from=a / /\n", 2, "refers to itself"),
        ("FROM base\nCOPY --from=0 / /\n", 2, "refers to itself"),
        ("FROM base AS a\nCOPY --from=b / /\nFROM base AS b\nCOPY --from=a / /\n", 4, "circular"),
        ("FROM base AS a\nCOPY --from=b / /\nFROM a AS b\nRUN x\n", 3, "circular"),
        ("FROM base\nCOPY --from=7 / /\n", 2, "there is no stage 7"),
        ("FROM base\nCOPY --from=$X / /\n", 2, "not expanded"),
        ("FROM base\nCOPY --from=nowhere / /\n", 2, "no such image"),
        ("FROM nowhere\n", 1, "no such image"),
        ("FROM base\nRUN --mount=from=0,target=/x y\n", 2, "number"),
        ("FROM base\nRUN --mount=from=$X,target=/x y\n", 2, "not expanded"),
        ("FROM base AS a\nRUN --mount=from=a,target=/x y\n", 2, "refers to itself"),
    ],
)
def test_bad_reference(build: Builder, text: str, line: int, word: str) -> None:
    error = build.error(text)
    assert word in error.message
    assert error.start == line
    assert error.lines


def test_unknown_target_names_the_stages(build: Builder) -> None:
    error = build.error("FROM base AS a\nFROM base AS b\n", target="x")
    assert "'x'" in error.message
    assert "a, b" in error.hint
    build.error("FROM base\n", target="1")


def test_a_registry_s_error_gets_a_place(build: Builder) -> None:
    class Down:
        def resolve(self, ref: str, platform: str) -> ResolvedImage:
            raise RegistryError("down", status=500)

    with pytest.raises(DockerfileError, match="x: down") as caught:
        convert(parse(b"FROM x\n", "Dockerfile"), ConvertOptions(), Down())
    assert caught.value.start == 1
    assert isinstance(caught.value.__cause__, RegistryError)


def test_a_not_found_error_is_the_cause(build: Builder) -> None:
    assert isinstance(build.error("FROM nowhere\n").__cause__, NotFoundError)


def test_long_chains_are_no_deep_recursion(build: Builder) -> None:
    chain = "FROM image AS s0\n" + "".join(f"FROM s{i} AS s{i + 1}\nRUN {i}\n" for i in range(1500))
    assert len(build(chain).ops(Exec)) == 1500
    copies = "FROM image AS s0\n" + "".join(
        f"FROM scratch AS s{i + 1}\nCOPY --from=s{i} / /\n" for i in range(1500)
    )
    assert len(build(copies).ops(File)) == 1500
    forward = "".join(f"FROM scratch AS s{i}\nCOPY --from=s{i + 1} / /\n" for i in range(1500))
    assert "in a row" in build.error(forward + "FROM scratch AS s1500\n", target="s0").message


# Named contexts


@pytest.mark.parametrize("name", ["image9", "image9:latest", "docker.io/library/image9"])
def test_context_for_an_image(build: Builder, name: str) -> None:
    contexts = {"image9": "docker-image://image1"}
    assert _asked(build(f"FROM {name}\n", contexts=contexts)) == ["image1"]
    assert _asked(build(f"FROM scratch\nCOPY --from={name} / /\n", contexts=contexts)) == ["image1"]


def test_context_comes_before_a_stage(build: Builder) -> None:
    text = "FROM image1 AS a\nFROM image2\nCOPY --from=a /x /\n"
    assert sorted(_asked(build(text, contexts={"a": "docker-image://image3"}))) == ["image2", "image3"]


def test_directory_as_context(build: Builder) -> None:
    built = build(
        "FROM base\nCOPY --from=src /x /\nRUN --mount=from=src,target=/m y\n",
        contexts={"src": "/some/where"},
        context_ignores={"src": ("*.o",)},
    )
    assert built.ops(LocalSource) == [LocalSource("src", ("*.o",))]
    assert "[context src] load from client" in built.names


def test_directory_as_base(build: Builder) -> None:
    built = build("FROM root\nRUN x\n", contexts={"root": "/some/where"})
    assert built.ops(LocalSource) == [LocalSource("root")]
    assert len([h for h in built.document["history"] if not h.get("empty_layer")]) == 2


def test_contexts_that_are_fetched(build: Builder) -> None:
    contexts = {"g": "https://u:p@a.example/b.git#v1", "h": "https://a.example/b.tar"}
    sources = {
        "g": GitSource("https://u:p@a.example/b.git", "v1"),
        "h": HttpSource("https://a.example/b.tar"),
    }
    built = build("FROM g\nCOPY --from=h b.tar /\n", contexts=contexts, sources=sources)
    assert built.ops(GitSource) == [sources["g"]]
    assert built.ops(HttpSource) == [sources["h"]]
    assert "[context g] https://a.example/b.git" in built.names


def test_build_context_that_is_fetched(build: Builder) -> None:
    source = GitSource("https://a.example/b.git")
    built = build("FROM base\nCOPY a /\n", sources={"context": source}, ignore=("a",))
    assert built.ops(GitSource) == [source]
    assert built.ops(LocalSource) == []


def test_layout_as_base(build: Builder) -> None:
    value = "oci-layout:///some/where:1"
    config = {"architecture": "amd64", "os": "linux", "config": {}}
    built = build("FROM c\n", contexts={"c": value}, images={value: config})
    assert _asked(built) == [value]


# ONBUILD


def _onbuild(*triggers: str) -> dict[str, dict[str, Any]]:
    config = {"OnBuild": list(triggers), "Env": ["PATH=/bin"]}
    return {"image": {"os": "linux", "architecture": "amd64", "config": config}}


def test_onbuild_fires_after_from(build: Builder) -> None:
    built = build("ARG G=1\nFROM image\nRUN b\n", _onbuild("ENV A=1", "RUN a", "WORKDIR /w"))
    assert [op.args[-1] for op in built.ops(Exec)] == ["a", "b"]
    assert built.ops(Exec)[1].cwd == "/w"
    assert "A=1" in built.ops(Exec)[0].env
    assert "OnBuild" not in built.config
    assert built.names == [
        "[1/4] FROM docker.io/library/image:latest",
        "[2/4] RUN a",
        "[3/4] WORKDIR /w",
        "[4/4] RUN b",
    ]
    assert (built.nodes[1].meta.start, built.nodes[1].meta.end) == (2, 2)


def test_onbuild_of_a_stage(build: Builder) -> None:
    built = build("FROM image AS a\nONBUILD RUN x\nRUN y\nFROM a AS b\nFROM b\nRUN z\n")
    assert [op.args[-1] for op in built.ops(Exec)] == ["y", "x", "z"]


def test_onbuild_brings_dependencies(build: Builder) -> None:
    built = build(
        "FROM image1 AS tools\nRUN t\nFROM image\n",
        _onbuild("COPY --from=tools /a /b", "COPY --from=image3 / /c", "RUN --mount=from=tools,target=/t x"),
    )
    assert sorted(_asked(built)) == ["image", "image1", "image3"]


def test_onbuild_heredoc(build: Builder) -> None:
    built = build("FROM image\n", _onbuild("COPY <<-E /x\nhi $A\nE"))
    assert built.ops(InlineSource)[0].files == (("E", "hi \n", 0o644),)


@pytest.mark.parametrize(
    "trigger",
    ["NOPE x", "ONBUILD RUN x", "FROM x", "MAINTAINER x", "RUN --x y", "RUN [1]", "", "COPY --from=z9 a b"],
)
def test_bad_onbuild(build: Builder, trigger: str) -> None:
    error = build.error("FROM base\n\nFROM image\n", images=_onbuild(trigger))
    assert error.start == 3
