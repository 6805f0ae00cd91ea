"""An image built again and compared with what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.runner import Pybuild

DOCKERFILE = """\
FROM busybox AS build
ARG MODE=fast
RUN mkdir /out && echo $MODE > /out/mode
RUN --mount=type=cache,target=/c,id=shared test ! -e /c/used && touch /c/used
FROM busybox
ENV A=1
COPY f /x/
COPY --from=build /out /out
RUN ln /x/f /x/g && chown 1:2 /x/f
"""


@pytest.fixture
def context(pybuild: Pybuild) -> Path:
    return pybuild.context({"Dockerfile": DOCKERFILE, "f": "one\n"})


def state(pybuild: Pybuild) -> list[str]:
    """What a verification must leave as it is."""
    listed = [
        pybuild("cache", "ls", "--no-trunc", "--format={{.ID}} {{.Snapshot}}").stdout,
        pybuild("images", "--format={{.ID}} {{.Tag}}").stdout,
        pybuild("history", "ls", "-q").stdout,
    ]
    modes = [mode for mode in (pybuild.store / "snapshots").iterdir() if mode.name[0] != "."]
    return [*listed, *sorted(p.name for mode in modes for p in mode.iterdir())]


def test_the_same_and_not_the_same(pybuild: Pybuild, context: Path) -> None:
    pybuild("build", "-t", "app:1", context)
    before = state(pybuild)
    assert "the same" in pybuild("verify", "app:1", context).stdout
    assert state(pybuild) == before
    (context / "f").write_text("two\n")
    found = json.loads(pybuild("verify", "--format=json", "app:1", context, status=1).stdout)
    assert found["config"] == []
    assert {(d["path"], d["what"]) for d in found["files"]} == {("/x/f", "content"), ("/x/g", "content")}
    (context / "f").write_text("one\n")
    text = DOCKERFILE.replace("A=1", "A=2").replace("chown 1:2 /x/f", "chmod 600 /x/f && touch /x/h")
    (context / "Dockerfile").write_text(text)
    told = pybuild("verify", "app:1", context, status=1).stdout
    for line in ("config.Env:", "/x/f: mode 644 -> 600", "/x/f: owner 1:2 -> 0:0", "/x/h: new:"):
        assert line in told, told
    assert state(pybuild) == before
    pybuild.check_store()


def test_options_count(me: Pybuild) -> None:
    context = me.context({"Dockerfile": DOCKERFILE, "f": "one\n"})
    me("build", "-t", "app:1", "--build-arg=MODE=slow", context)
    assert "/out/mode: " in me("verify", "app:1", context, status=1).stdout
    me("verify", "--build-arg=MODE=slow", "app:1", context)
    assert me("verify", "no-such:1", context, status=1).stderr
    (context / "Dockerfile").write_text("FROM busybox\nRUN exit 5\n")
    failed = me("verify", "app:1", context, status=1)
    assert "exit code: 5" in failed.stderr and "Dockerfile:2" in failed.stderr
    me.check_store()


def test_layers_that_are_the_same_to_the_byte(me: Pybuild) -> None:
    context = me.context({"Dockerfile": "FROM busybox\nCOPY f /x/\nWORKDIR /w\n", "f": "one\n"})
    me("build", "-t", "app:1", context)
    assert "and every layer" in me("verify", "app:1", context).stdout


def test_no_context(me: Pybuild) -> None:
    me("build", "-t", "x", me.context({"Dockerfile": DOCKERFILE, "f": "one\n"}))
    assert "is not there" in me("verify", "x", me.folder / "nothing", status=2).stderr
