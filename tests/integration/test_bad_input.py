"""Nonsense of every kind: one clear error at its place, soon, and nothing half-made."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.people import available
from tests.support.runner import Pybuild

PATIENCE = 2.0
"""Seconds of one processor."""


class Case(NamedTuple):
    """A Dockerfile, a part of the error's message, its line, and the text that the caret points at."""

    dockerfile: bytes | str
    message: str
    line: int = 2
    at: str = ""


S = "FROM scratch\n"
CASES: dict[str, Case] = {
    # Text that is no Dockerfile.
    "megabyte line": Case(S + "RUN " + "x" * (1 << 20) + "\n", "longer than the limit", 2, "RUN"),
    "binary": Case(Path("/bin/true").read_bytes(), "NUL byte", 1, "␀"),
    "NUL in an instruction": Case(S + "RUN a\0b\n", "NUL byte", 2, "␀b"),
    "UTF-16 without a mark": Case(S.encode("utf-16-be"), "NUL byte", 1, "␀"),
    "markdown": Case("# Title\n\nSome text\n", "unknown instruction: Some", 3, "Some"),
    "YAML": Case('version: "3"\n', "unknown instruction: version:", 1, "version:"),
    "merge conflict": Case("<<<<<<< HEAD\n" + S, "unknown instruction: <<<<<<<", 1, "<<<<<<<"),
    "carriage returns alone": Case("FROM scratch\rCOPY x /\r", "requires either one or three", 1, "FROM"),
    "vertical tab": Case("FROM scratch\vRUN x\n", "requires either one or three", 1, "RUN"),
    "no-break space": Case("FROM\u00a0scratch\n", "unknown instruction", 1, "FROM"),
    "zero-width space": Case("\u200bFROM scratch\n", "unknown instruction", 1, "\u200bFROM"),
    "escape sequence": Case(S + "\x1b[31mRUN\x1b[0m x\n", "unknown instruction", 2, "␛[31mRUN"),
    # Words of the language.
    "unknown instruction": Case(S + "RUM x\n", "did you mean RUN?", 2, "RUM"),
    "unknown flag": Case(S + "COPY --form=x a /b\n", "did you mean from?", 2, "--form"),
    "flag twice": Case(S + "COPY --chown=1 --chown=2 a /b\n", "duplicate flag", 2, "--chown=1"),
    "flag without a boolean": Case(S + "COPY --link=maybe a /b\n", "boolean", 2, "--link"),
    "heredoc without end": Case(S + "COPY <<EOF /x\nhi\n", "unterminated heredoc", 2, "EOF"),
    "heredoc as destination": Case(S + "COPY a <<E\nE\n", "heredoc as a destination", 2, "<<E"),
    "bad JSON": Case(S + "SHELL [\"a\", 'b']\n", "JSON form", 2, "SHELL"),
    "number in JSON": Case(S + 'CMD ["a", 1]\n', "nothing but strings", 2, "["),
    "directive twice": Case("# escape=`\n# escape=`\n" + S, "only one escape", 2, "#"),
    "directive of no use": Case("# escape=x\n" + S, "invalid escape directive", 1, "x"),
    "check of no use": Case("# check=foo\n" + S, "invalid check option", 1, "foo"),
    "nothing behind FROM": Case("FROM\n", "requires either one or three", 1, "FROM"),
    "FROM without AS": Case("FROM scratch base\n", "requires either one or three", 1, "base"),
    "name of a stage": Case("FROM scratch AS 9x\n", "invalid name for build stage", 1, "9x"),
    "RUN before FROM": Case("RUN x\n", "no build stage yet", 1, "RUN"),
    "one argument of COPY": Case(S + "COPY a\n", "at least two arguments", 2, "COPY"),
    "ENV without =": Case(S + "ENV a=b c\n", "can't find =", 2, "c"),
    "typographic quotes": Case(S + "ENV a=“b c”\n", "can't find =", 2, "c”"),
    "ONBUILD FROM": Case(S + "ONBUILD FROM x\n", "isn't allowed", 2, "FROM x"),
    "empty VOLUME": Case(S + "VOLUME []\n", "at least one argument", 2, "VOLUME"),
    # Values.
    "operator": Case(S + "ENV a=${b:^c}\n", "unsupported modifier (:^)", 2, ":^"),
    "open brace": Case(S + "ENV a=${b\n", "missing '}'", 2, "${b"),
    "open quote": Case(S + 'ENV a="b\n', "double quote", 2, '"b'),
    "required variable": Case(S + "ARG V\nENV a=${V:?gone}\n", "gone", 3, "${V"),
    "nesting": Case(S + "ENV a=" + "${a:-" * 12000 + "\n", "too deeply", 2, ""),
    "mode": Case(S + "COPY --chmod=999 a /b\n", "not a mode", 2, "--chmod"),
    "owner": Case(S + "COPY --chown=a:b:c a /b\n", "user[:group]", 2, "--chown"),
    "port": Case(S + "EXPOSE 80 eighty\n", "not a port", 2, "eighty"),
    "signal": Case(S + "STOPSIGNAL SIGFOO\n", "not a signal", 2, "SIGFOO"),
    "duration": Case(S + "HEALTHCHECK --interval=5 CMD x\n", "not a duration", 2, "--interval"),
    "retries": Case(S + "HEALTHCHECK --retries=x CMD x\n", "must be a number", 2, "--retries"),
    "mount type": Case(S + "RUN --mount=type=foo x\n", "unsupported mount type", 2, "--mount"),
    "mount key": Case(S + "RUN --mount=type=tmpfs,a=b,target=/x x\n", "unexpected key", 2, "--mount"),
    "mount on a later line": Case(S + "RUN \\\n --mount=type=bind \\\n x\n", "needs a target", 2, "--mount"),
    "network": Case(S + "RUN --network=mars x\n", "invalid network mode", 2, "--network"),
    "security": Case(S + "RUN --security=insecure x\n", "not allowed", 2, "--security"),
    "device": Case(S + "RUN --device=a.b/c=d x\n", "not allowed", 2, "--device"),
    "platform": Case("FROM --platform=a/b/c/d scratch\n", "not a platform", 1, "--platform"),
    "checksum": Case(S + "ADD --checksum=md5:1 http://127.0.0.1:9/x /\n", "SHA-256", 2, "--checksum"),
    "checksum of a file": Case(S + "ADD --checksum=sha256:0 Dockerfile /\n", "one source", 2, "--checksum"),
    "syntax": Case("# syntax=example.com/x:1\n" + S, "docker/dockerfile", 1, "example.com"),
    # Stages and images.
    "own stage": Case("FROM scratch AS a\nCOPY --from=a x /\n", "refers to itself", 2, "--from=a"),
    "missing stage": Case(S + "COPY --from=7 x /\n", "no stage 7", 2, "--from=7"),
    "cycle": Case(
        "FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nCOPY --from=a x /\nFROM a\n",
        "circular dependency",
        4,
        "a x",
    ),
    "variable in --from": Case(S + "COPY --from=$X a /\n", "not expanded here", 2, "--from"),
    "name of an image": Case("FROM Upper/Case\n", "lower case", 1, "Upper"),
    "digest": Case("FROM busybox@sha256:12\n", "is not a digest", 1, "busybox"),
    "empty base": Case("ARG X\nFROM $X\n", "is empty", 2, "$X"),
    # What only the build can see.
    "missing source": Case(S + "COPY a b /\n", "a is not there", 2, "a b"),
    "missing second source": Case(S + "COPY \\\n  Dockerfile \\\n  b /\n", "b is not there", 2, "b /"),
    "wildcard": Case(S + "COPY a[ /\n", "malformed wildcard", 2, "a["),
    "unknown owner": Case(S + "COPY --chown=me Dockerfile /\n", "no user 'me'", 2, "COPY"),
    "file in the way": Case(S + "COPY Dockerfile /f\nWORKDIR /f/x\n", "/f is a file", 3, "WORKDIR"),
}


@pytest.fixture(scope="module")
def pybuild(kept: Callable[[str], Pybuild]) -> Pybuild:
    pybuild = kept(available()[-1])
    pybuild("build", pybuild.context({"Dockerfile": S + "COPY Dockerfile /\n"}, "good"))
    return pybuild


@pytest.mark.parametrize("name", CASES)
def test_one_error_at_its_place(name: str, pybuild: Pybuild) -> None:
    case = CASES[name]
    place = pybuild.context({"Dockerfile": case.dockerfile}, "bad")
    before = _seconds()
    told = pybuild("build", "--progress=quiet", place, status=1, env={"NO_COLOR": "1"})
    assert _seconds() - before < PATIENCE
    assert told.stdout == ""
    lines = told.stderr.split("\n")
    errors = [line for line in lines if line.startswith("ERROR: ")]
    assert len(errors) == 1 and case.message in errors[0], told.stderr
    assert lines[0] == f"Dockerfile:{case.line}", told.stderr
    marked = [n for n, line in enumerate(lines) if re.match(r" *\d+ \| >>>", line)]
    carets = [n for n, line in enumerate(lines) if re.match(r"     \| +\^$", line)]
    assert marked and len(carets) == 1, told.stderr
    assert lines[carets[0] - 1][lines[carets[0]].index("^") :].startswith(case.at), told.stderr
    assert "Traceback" not in told.stderr
    assert not pybuild.half_made()


def test_a_file_without_instructions(pybuild: Pybuild) -> None:
    for text, message in (
        (b"", "cannot be empty"),
        (b"# only\n\n", "has no instructions"),
        ("FROM scratch\n".encode("utf-16"), "UTF-16"),
    ):
        told = pybuild("build", "--progress=quiet", pybuild.context({"Dockerfile": text}, "bad"), status=1)
        assert told.stderr.startswith("Dockerfile\nERROR: ") and message in told.stderr


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "other"])
def test_a_fifo_that_nobody_writes_to(name: str, pybuild: Pybuild) -> None:
    place = pybuild.context({"Dockerfile": S} if name != "Dockerfile" else {}, "bad")
    os.mkfifo(place / name)
    words = ("-f", str(place / name)) if name == "other" else ()
    told = pybuild("build", "--progress=quiet", *words, pybuild.person.own(place), status=1, timeout=20)
    assert f"{name}: it is a FIFO, not a regular file" in told.stderr
    if name != ".dockerignore":
        assert "hint: pybuild build -f - PATH < " in told.stderr


def test_what_the_shell_opened_is_read(pybuild: Pybuild) -> None:
    place = pybuild.context({"f": "1"}, "good")
    reader, writer = os.pipe()
    os.write(writer, b"FROM scratch\nCOPY f /\n")
    os.close(writer)
    try:
        pybuild("build", "-f", f"/dev/fd/{reader}", "-o", pybuild.out / "fd", place, pass_fds=(reader,))
    finally:
        os.close(reader)
    assert os.listdir(pybuild.out / "fd") == ["f"]
    told = pybuild(
        "build", "-f", "/dev/stdin", "-o", pybuild.out / "in", place, input="FROM scratch\nCOPY f /g\n"
    )
    assert told.status == 0 and os.listdir(pybuild.out / "in") == ["g"]


def _seconds() -> float:
    """Of processor time, by all children so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
