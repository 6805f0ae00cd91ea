"""Errors as documents: the golden texts are in tests/unit/cli/reports/."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from buildkit_py.cli import report
from buildkit_py.cli.excerpt import Style
from buildkit_py.errors import DockerfileError, NotFoundError, StepError, UnsupportedError, UsageError
from buildkit_py.request import BuildWarning

GOLDEN = Path(__file__).parent / "reports"
LINES = (
    "FROM debian:12",
    "WORKDIR /src",
    "COPY . .",
    "RUN make \\",
    "\tall \\",
    "\tinstall",
    "USER nobody",
    'CMD ["app"',
)
PLAIN, COLOUR = Style(False), Style(True)
LONG = ("FROM x", "RUN <<E", *(f"line {n}" for n in range(40)), "E", "CMD y")


def _divide() -> Exception:
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as error:
        return error


CASES: dict[str, tuple[Exception, Style]] = {
    "step": (
        StepError(
            'process "/bin/sh -c make all install" did not complete successfully: exit code: 2',
            step="[4/5] RUN make all install",
            status=2,
            log=(
                "0.112 cc -c main.c",
                "0.345 main.c:1: error: \x1b[31mno\x1b[0m",
                "0.346 make: *** [main.o] Error 1",
            ),
            path="Dockerfile",
            start=4,
            end=6,
            lines=LINES,
        ),
        PLAIN,
    ),
    "step-not-found": (
        StepError("exit code: 127", step="RUN x", status=127, path="Dockerfile", start=1, lines=LINES), PLAIN,
    ),
    "caret": (
        DockerfileError(
            "a bracket is not closed",
            path="sub/Dockerfile",
            start=8,
            column=5,
            lines=LINES,
            hint="write ]\nat the end",
        ),
        PLAIN,
    ),
    "caret-after-tab": (
        DockerfileError("unknown word", path="Dockerfile", start=5, column=2, lines=LINES), PLAIN,
    ),
    "colour": (DockerfileError("wrong", path="Dockerfile", start=2, column=9, lines=LINES, hint="x"), COLOUR),
    "whole-file": (DockerfileError("the file is empty", path="Dockerfile"), PLAIN),
    "long": (DockerfileError("too long", path="Dockerfile", start=2, end=43, lines=LONG), PLAIN),
    "past-the-end": (DockerfileError("odd", path="Dockerfile", start=99, end=99, lines=LINES), PLAIN),
    "unsupported": (UnsupportedError("building for two platforms is not supported yet"), PLAIN),
    "usage": (UsageError("no such option '--tga'", hint="did you mean '--tag'?"), PLAIN),
    "hostile": (NotFoundError("no image \x1b]0;title\x07'x\x1b[2J'", hint="try \x1b[5mthis"), PLAIN),
    "full": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/store/blobs"), PLAIN),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    error, style = CASES[name]
    expected = GOLDEN / f"{name}.txt"
    assert report.render(error, style) == expected.read_text()


def test_every_golden_is_a_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*CASES, "warnings", "check"}


def test_an_unexpected_exception_is_one_line_and_a_hint() -> None:
    text = report.render(_divide(), PLAIN)
    assert text.startswith("ERROR: unexpected ZeroDivisionError: division by zero (test_report.py:")
    assert text.endswith("\nhint: this is a fault of pybuild; PYBUILD_DEBUG=1 shows where it happened\n")
    assert text.count("\n") == 2


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYBUILD_DEBUG", "1")
    assert report.show(_divide()) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_exit_statuses(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYBUILD_DEBUG", raising=False)
    assert report.show(UsageError("x")) == 2
    assert report.show(NotFoundError("x")) == 1
    assert report.show(UsageError("x"), 125) == 125
    assert capsys.readouterr().out == ""


WARNINGS = (
    BuildWarning(
        "'as' and 'FROM' keywords' casing do not match", "FromAsCasing", "Dockerfile", 1, 1,
        "https://docs.docker.com/go/dockerfile/rule/from-as-casing/", LINES,
    ),
    BuildWarning("JSON arguments recommended", "JSONArgsRecommended", "Dockerfile", 8, 8, "", LINES),
)  # fmt: skip


@pytest.mark.parametrize(("name", "checking"), [("warnings", False), ("check", True)])
def test_warnings(name: str, checking: bool) -> None:
    text = report.render_warnings(WARNINGS, checking=checking, style=PLAIN)
    assert text == (GOLDEN / f"{name}.txt").read_text()


def test_a_clean_check() -> None:
    assert report.render_warnings((), checking=True, style=PLAIN) == "Check complete, no warnings found.\n"
    assert " 1 warning found:" in report.render_warnings(WARNINGS[:1], checking=False, style=PLAIN)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    report.table([("NAME", "SIZE"), ("long-name", "1MB"), ("x\x1b[2J", "")])
    assert capsys.readouterr().out == "NAME        SIZE\nlong-name   1MB\nx\n"
