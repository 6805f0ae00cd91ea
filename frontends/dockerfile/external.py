"""Files that ask for another frontend than this one. See docs/adr/0017."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.errors import UnsupportedError
from buildkit_py.frontends.dockerfile.lexer import Lexer

_OWN = ("docker/dockerfile", "docker/dockerfile-upstream")
_ARGUMENT = "BUILDKIT_SYNTAX"
ORDINARY = f"--build-arg {_ARGUMENT}=docker/dockerfile:1"


def check(lexer: Lexer, build_args: Mapping[str, str]) -> None:
    """Raises UnsupportedError. To be called before the file is read further: it may be no Dockerfile."""
    if _ARGUMENT in build_args:
        image, line = build_args[_ARGUMENT], 0
    else:
        image, line = _asked_for(lexer)
    words = image.split()
    if not words or _is_own(words[0]):
        return
    raise UnsupportedError(
        f"the frontend {words[0]} is not Docker's: docker/dockerfile:1 is built in, and no other is run",
        path=lexer.path,
        start=line,
        lines=lexer.lines,
        hint=f"if the file is an ordinary Dockerfile, say so: {ORDINARY}" if line else f"use {ORDINARY}",
        word=words[0],
    )


def _is_own(image: str) -> bool:
    """Whether an image is a 1.x of Docker's frontend, whatever its tag adds (1.7-labs, master)."""
    name, _, tag = image.removeprefix("docker.io/").partition("@")[0].partition(":")
    major = tag.partition(".")[0].partition("-")[0]
    return name in _OWN and not (major.isascii() and major.isdigit() and int(major[:4]) > 1)


def _asked_for(lexer: Lexer) -> tuple[str, int]:
    """The image and its line. Other languages write ``// syntax=``, or have a field of that name in JSON."""
    for name, value, line in lexer.directives:
        if name == "syntax":
            return value, line
    first = lexer.lines[0].lstrip() if lexer.lines else ""
    if first.startswith("//"):
        name, _, value = first[2:].partition("=")
        return (value, 1) if name.strip().lower() == "syntax" else ("", 0)
    if first.startswith("{"):
        import json

        try:
            value = json.loads("\n".join(lexer.lines)).get("syntax", "")
        except (ValueError, RecursionError):
            return "", 0
        return (value, 1) if isinstance(value, str) else ("", 0)
    return "", 0
