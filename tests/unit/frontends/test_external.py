"""Which frontends a file may ask for."""

from __future__ import annotations

import pytest

from buildkit_py.errors import DockerfileError, UnsupportedError
from buildkit_py.frontends.dockerfile.convert import read

DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    "image",
    [
        "docker/dockerfile",
        "docker/dockerfile:1",
        "docker.io/docker/dockerfile:1.7-labs",
        "docker/dockerfile:latest",
        "docker/dockerfile-upstream:master",
        "docker/dockerfile:1.4" + DIGEST,
        "docker/dockerfile:1 and more words",
    ],
)
def test_docker_s_own_is_built_in(image: str) -> None:
    assert read(f"# syntax={image}\nFROM scratch\n".encode(), "D", {}).instructions


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# syntax=someone/else:1\nFROM scratch\n", 1),
        ("#!/x\n# escape=`\n#syntax = docker/dockerfile:2\nFROM scratch\n", 3),
        ("# syntax=registry.example.com/docker/dockerfile:1\nFROM scratch\n", 1),
        ("# syntax=someone/else\napiVersion: v1\n", 1),
        ("// syntax=someone/else\nfrom(x)\n", 1),
        ('{\n "syntax": "someone/else",\n "x": [1]\n}\n', 1),
    ],
)
def test_another_is_refused_by_name_before_its_language_is_read(text: str, line: int) -> None:
    with pytest.raises(UnsupportedError) as raised:
        read(text.encode(), "D", {})
    assert raised.value.start == line
    assert raised.value.word in text and raised.value.word in raised.value.message
    assert "--build-arg BUILDKIT_SYNTAX=docker/dockerfile:1" in raised.value.hint


def test_the_build_argument_has_the_last_word() -> None:
    own = {"BUILDKIT_SYNTAX": "docker/dockerfile:1"}
    assert read(b"# syntax=someone/else\nFROM scratch\n", "D", own).instructions
    with pytest.raises(UnsupportedError) as raised:
        read(b"FROM scratch\n", "D", {"BUILDKIT_SYNTAX": "someone/else"})
    assert raised.value.start == 0


@pytest.mark.parametrize("text", ["// FROM x\n", "{}\n", '{"syntax": 1}\n', "{" * 5000, "// syntax\n"])
def test_what_only_looks_like_it(text: str) -> None:
    with pytest.raises(DockerfileError) as raised:
        read(text.encode(), "D", {})
        raise DockerfileError("an unknown instruction, as semantics.check finds")
    assert not isinstance(raised.value, UnsupportedError)
