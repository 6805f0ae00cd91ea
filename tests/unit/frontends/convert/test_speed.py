"""Files of 64 KiB that could make a step quadratic: each is converted and checked in a second or so."""

from __future__ import annotations

import time

import pytest

from buildkit_py.frontends.dockerfile.convert import ConvertOptions, examine, read
from tests.unit.frontends.convert.building import FakeImages

PATIENCE = 3.0
"""Seconds of processor time. What is quadratic here took 5 and more."""


def _each(text: str, count: int) -> str:
    """Lines with @ for their number and % for the one before."""
    return "".join(text.replace("@", str(n)).replace("%", str(n - 1)) for n in range(1, count))


FILES = {
    "variables of variables": _each("ENV a@=$a%x\n", 3500),
    "undefined variables": _each("ARG defined@=1\nLABEL l=$defind@\n", 1500),
    "variables": _each("ENV a@=b\n", 4500),
    "arguments": _each("ARG a@=b\n", 4500) + 'RUN ["x"]\n',
    "labels": _each("LABEL l@=v\n", 4500),
    "ports": "EXPOSE 0-65535\n" * 4000,
    "relative directories": "WORKDIR a\n" * 3500,
    "stages": _each("FROM scratch AS s@\nENV a@=b\n", 2000),
    "stages of stages": "FROM scratch AS s0\n" + _each("FROM s% AS s@\nENV a@=b\n", 1800),
    "copies of copies": "FROM scratch AS s0\n" + _each("FROM scratch AS s@\nCOPY --from=s% a /\n", 1500),
    "heredocs": _each("COPY <<e@ /\nx\ne@\n", 3500),
    "triggers": "ONBUILD RUN x\n" * 4600,
    "patterns": f"ENV a={'x' * 20000}\nENV b=${{a/{'*x' * 2000}y/z}}\nENV c=${{a##{'*x' * 5000}y}}\n",
    "brackets": "CMD " + "[" * 60000 + "\n",
    "mounts": "RUN " + _each("--mount=type=tmpfs,target=/@ ", 1800) + '["x"]\n',
}


@pytest.mark.parametrize("name", FILES)
def test_no_step_is_quadratic(name: str) -> None:
    data = ("FROM scratch\n" + FILES[name]).encode()
    started = time.process_time()
    _, error = examine(read(data, "Dockerfile", {}), ConvertOptions(), FakeImages({}))
    assert time.process_time() - started < PATIENCE
    assert (error is not None) == (name == "ports")


def test_a_thousand_lines_are_parsed_in_fifty_milliseconds() -> None:
    part = (
        '# build @\nFROM debian:12 AS s@\nARG V=1 W\nENV a=b c="$V d"\nWORKDIR /src\n'
        "COPY --from=s% --chown=1:2 a b /d/\n"
        "RUN --mount=type=cache,target=/c \\\n    # why\n    make \\\n    all\n"
        'RUN <<EOF\nset -e\nmake check\nEOF\nCMD ["a", "b"]\n'
    )
    data = _each(part, 68).encode()
    assert 1000 <= data.count(b"\n") <= 1020
    best = 1.0
    for _ in range(5):
        started = time.process_time()
        read(data, "Dockerfile", {})
        best = min(best, time.process_time() - started)
    assert best < 0.05
