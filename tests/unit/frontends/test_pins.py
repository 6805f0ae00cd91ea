"""Where images stand in a Dockerfile, and that nothing else is touched."""

from __future__ import annotations

import pytest

from buildkit_py.frontends.dockerfile import pins
from buildkit_py.frontends.dockerfile.lexer import Lexer
from buildkit_py.frontends.dockerfile.parser import read


def marked(text: str) -> str:
    """The text with [ ] around each image."""
    found, _ = pins.places(read(Lexer(text.encode(), "Dockerfile")), text)
    return pins.replaced(text, {place: f"[{place.image}]" for place in found})


@pytest.mark.parametrize(
    "text",
    [
        "FROM [debian:12]\n",
        "from  --platform=linux/amd64   [debian]  AS debian\nRUN true\n",
        "FROM [a] AS b\nFROM b\nCOPY --from=b /x /\nCOPY --from=B /x /\nCOPY --from=0 /x /\n",
        "FROM scratch\nCOPY --from=[busybox:1] --chown=1 /bin/busybox /\nADD --link a /\n",
        "FROM \\\n  # which one\n  [debian:12] \\\n  AS x\n",
        "FROM [a]\r\nCOPY --from=[b:1] \\\r\n  /x /\r\n",
        "FROM [a]\nRUN --mount=type=bind,from=[b:1],target=/b --mount=from=[c],target=/c true from=c\n",
        "FROM [a]\nRUN --mount=type=cache,target=/x,from=[b:1] echo from=b:1\n",
        'FROM [a]\nRUN --mount=from="[b:1]",target=/b true\n',
        "ARG BASE=[debian:12]\nFROM $BASE AS x\nFROM ${BASE}\n",
        'ARG OTHER=debian:12 BASE="[debian:12]"\nFROM $BASE\n',
        "ARG VERSION=12\nFROM debian:${VERSION}\nFROM debian:$VERSION\n",
        "FROM $UNSET\n",
        "FROM [a]\nRUN <<EOF\nFROM b\nCOPY --from=c / /\nEOF\nCOPY --from=[d] / /\n",
        "FROM [a]\nONBUILD COPY --from=[b:1] / /\n",
        "# FROM x\nFROM [x]\nLABEL from=x\nCOPY x /x\n",
        "FROM [a:1@sha256:" + "0" * 64 + "]\nFROM [a:1@sha256:" + "0" * 64 + "]\n",
        "FROM [a]\nFROM [a]",
    ],
)
def test_places(text: str) -> None:
    assert marked(text.replace("[", "").replace("]", "")) == text


def test_what_holds_a_variable_is_named() -> None:
    text = "ARG V=1\nFROM debian:$V AS x\nFROM $W\nRUN --mount=from=x,target=/x true\n"
    _, skipped = pins.places(read(Lexer(text.encode(), "Dockerfile")), text)
    assert [(s.line, s.image) for s in skipped] == [(2, "debian:$V"), (3, "$W")]


def test_places_know_their_lines() -> None:
    text = "FROM a \\\n AS x\n\nCOPY \\\n --from=b / /\n"
    found, _ = pins.places(read(Lexer(text.encode(), "Dockerfile")), text)
    assert [(p.line, p.image) for p in found] == [(1, "a"), (5, "b")]
