"""ARG and ENV: scopes, order, automatic arguments."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.llb.ops import Exec
from tests.unit.frontends.convert.building import Builder, Built


def _env(built: Built) -> dict[str, str]:
    """The environment of the last RUN."""
    return dict(item.split("=", 1) for item in built.ops(Exec)[-1].env)


@pytest.mark.parametrize(
    ("text", "build_args", "value"),
    [
        ("ARG A=1", {}, "1"),
        ("ARG A=1", {"A": "2"}, "2"),
        ("ARG A=1", {"A": ""}, ""),
        ("ARG A", {}, None),
        ("ARG A=", {}, ""),
        ("ARG A", {"A": "2"}, "2"),
        ("", {"A": "2"}, None),
        ("ARG B=b A=$B", {}, ""),
        ("ARG B=b\nARG A=$B", {}, "b"),
        ("ARG A='x y'", {}, "x y"),
        ("ARG A=1 B=2", {}, "1"),
        ("ENV A=1\nARG A=2", {}, "2"),
        ("ENV A=1\nARG A", {}, "1"),
        ("ENV A=1\nARG A", {"A": "3"}, "3"),
        ("ARG A=1\nENV A=2", {}, "2"),
        ("ARG A=1\nENV A=2", {"A": "3"}, "2"),
        ("ARG A=1\nENV A=${A}2", {}, "12"),
        ("ARG A=1\nARG A=2", {}, "2"),
        ("ENV A=${A:-d}", {}, "d"),
        ("ARG FROM_BASE=arg", {}, None),
    ],
)
def test_in_a_stage(build: Builder, text: str, build_args: dict[str, str], value: str | None) -> None:
    built = build(f"FROM base\n{text}\nRUN x\n", build_args=build_args)
    assert _env(built).get("A") == value


def test_arg_after_env_leaves_the_image_s_value(build: Builder) -> None:
    built = build("FROM base\nENV A=env\nARG A=arg\nARG FROM_BASE=no\nRUN x\n")
    assert _env(built)["A"] == "arg"
    assert _env(built)["FROM_BASE"] == "no"
    assert built.config["Env"] == ["PATH=/base/bin", "FROM_BASE=yes", "A=env"]


@pytest.mark.parametrize(
    ("text", "build_args", "value"),
    [
        ("ARG A=1\nFROM base\nRUN x", {}, None),
        ("ARG A=1\nFROM base\nARG A\nRUN x", {}, "1"),
        ("ARG A=1\nFROM base\nARG A=2\nRUN x", {}, "2"),
        ("ARG A=1\nFROM base\nARG A=2\nRUN x", {"A": "3"}, "3"),
        ("ARG A=1\nFROM base\nARG A\nRUN x", {"A": "3"}, "3"),
        ("ARG A\nFROM base\nARG A\nRUN x", {"A": "3"}, "3"),
        ("ARG A\nFROM base\nARG A\nRUN x", {}, None),
        ("ARG B=b\nARG A=$B\nFROM base\nARG A\nRUN x", {}, "b"),
        ("ARG B=b A=${B}c\nFROM base\nARG A\nRUN x", {}, "bc"),
        ("FROM base AS p\nARG A=1\nFROM p\nRUN x", {}, "1"),
        ("FROM base AS p\nARG A=1\nFROM base\nRUN x", {}, None),
        ("FROM base AS p\nENV A=1\nFROM p\nRUN x", {}, "1"),
        ("FROM base AS p\nENV A=1\nFROM p\nENV A=2\nFROM p\nRUN x", {}, "1"),
    ],
)
def test_across_scopes(build: Builder, text: str, build_args: dict[str, str], value: str | None) -> None:
    assert _env(build(text + "\n", build_args=build_args)).get("A") == value


@pytest.mark.parametrize(
    ("text", "build_args", "asked"),
    [
        ("ARG V=1\nFROM image:$V\n", {}, "image:1"),
        ("ARG V=1\nFROM image:$V\n", {"V": "2"}, "image:2"),
        ("ARG V\nFROM image:${V:-3}\n", {}, "image:3"),
        ("ARG I=image\nFROM ${I}${V}\n", {"V": "no"}, "image"),
        ("FROM image-$TARGETARCH\n", {}, "image-amd64"),
        ("FROM image-$TARGETARCH\n", {"TARGETARCH": "x"}, "image-x"),
        ("FROM image-$TARGETSTAGE\n", {}, "image-default"),
        ("ARG A=image A2=$A\nFROM $A2\n", {}, "image"),
    ],
)
def test_in_from(build: Builder, text: str, build_args: dict[str, str], asked: str) -> None:
    assert build(text, build_args=build_args).images.asked == [(asked, "linux/amd64")]


def test_stage_named_by_an_arg(build: Builder) -> None:
    built = build("ARG S=two\nFROM image1 AS one\nFROM image2 AS two\nFROM $S\nRUN x\n")
    assert [ref for ref, _ in built.images.asked] == ["image2"]


@pytest.mark.parametrize(
    "text", ["FROM $X\n", "FROM base\nARG X=base\nFROM $X\n", "FROM --platform=$X base\n"]
)
def test_empty_from(build: Builder, text: str) -> None:
    error = build.error(text)
    assert "is empty" in error.message
    assert error.start == text.count("\n")
    assert "before the first FROM" in error.hint


@pytest.mark.parametrize(
    ("platforms", "expected"),
    [
        (
            ("linux/arm64",),
            {
                "TARGETPLATFORM": "linux/arm64",
                "TARGETOS": "linux",
                "TARGETARCH": "arm64",
                "TARGETVARIANT": "",
            },
        ),
        (("linux/arm",), {"TARGETPLATFORM": "linux/arm/v7", "TARGETARCH": "arm", "TARGETVARIANT": "v7"}),
    ],
)
def test_automatic(build: Builder, platforms: tuple[str, ...], expected: dict[str, str]) -> None:
    lines = "\n".join(f"ARG {name}" for name in (*expected, "BUILDPLATFORM", "TARGETSTAGE"))
    built = build(f"FROM image AS s\n{lines}\nRUN x\nFROM scratch\n", platforms=platforms, target="s")
    env = _env(built)
    assert {name: env[name] for name in expected} == expected
    assert env["BUILDPLATFORM"].startswith("linux/")
    assert env["TARGETSTAGE"] == "s"


def test_automatic_needs_a_declaration(build: Builder) -> None:
    assert "TARGETARCH" not in _env(build("FROM base\nRUN x\n"))


def test_platform_of_a_stage(build: Builder) -> None:
    built = build(
        "FROM --platform=$BUILDPLATFORM image AS b\nFROM --platform=linux/arm64 image2\nCOPY --from=b / /\n"
    )
    assert ("image2", "linux/arm64") in built.images.asked
    assert built.target.platform == "linux/arm64"
    assert built.document["architecture"] == "arm64"


def test_platform_of_scratch(build: Builder) -> None:
    built = build("FROM --platform=arm/v6 scratch\n")
    assert built.target.platform == "linux/arm/v6"
    assert (built.document["architecture"], built.document["variant"]) == ("arm", "v6")
    assert "is not a platform" in build.error("FROM --platform=a/b/c/d scratch\n").message


def test_base_of_another_platform_tells_the_truth(build: Builder) -> None:
    images: dict[str, dict[str, Any]] = {"image": {"os": "linux", "architecture": "s390x", "config": {}}}
    built = build("FROM image\nRUN x\n", images)
    assert built.target.platform == "linux/s390x"
    assert built.document["architecture"] == "s390x"


def test_default_path_without_one_in_the_base(build: Builder) -> None:
    built = build("FROM image\nRUN x\nENV P=$PATH\n")
    assert _env(built)["PATH"].startswith("/usr/local/sbin:")
    assert built.config["Env"] == ["P=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def test_escape_directive(build: Builder) -> None:
    built = build("# escape=`\nFROM base\nENV A=a`$b B=c\\d\n")
    assert built.config["Env"][2:] == ["A=a$b", "B=c\\d"]


def test_hostname_argument(build: Builder) -> None:
    built = build("FROM base\nRUN x\n", build_args={"BUILDKIT_SANDBOX_HOSTNAME": "h"})
    assert built.ops(Exec)[0].hostname == "h"
