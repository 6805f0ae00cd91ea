"""What decides whether the cache is used, and how large it grows."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.integration.cache.steps import HIT, MISS, verdicts
from tests.support.runner import Pybuild

TTL = """\
FROM busybox AS build
RUN echo a > /a
RUN --mount=type=bind,from=busybox,source=/etc,target=/m echo b > /b
FROM busybox
COPY f /
COPY --from=build /a /
RUN echo last
"""


def steps(pybuild: Pybuild, *options: str, env: dict[str, str] | None = None) -> dict[str, str]:
    place = pybuild.folder / "context"
    return verdicts(pybuild("build", "--progress=rawjson", *options, place, env=env).stderr)


def test_results_that_are_too_old(me: Pybuild) -> None:
    me.context({"Dockerfile": TTL, "f": "f\n"})
    names = ["RUN echo a > /a", "COPY f /", "COPY --from=build /a /", "RUN echo last"]
    found = steps(me)
    assert {found[name] for name in names} == {MISS}
    found = steps(me, "--cache-ttl=1h")
    assert {found[name] for name in names} == {HIT}
    found = steps(me, "--cache-ttl=0.001s")
    assert [found[name] for name in names] == [MISS, HIT, HIT, MISS], "what is the same content stays"
    assert "older than --cache-ttl" in me("why").stdout
    assert steps(me, env={"PYBUILD_CACHE_TTL": "1h"})["RUN echo last"] == HIT
    assert steps(me, env={"PYBUILD_CACHE_TTL": "0.001s"})["RUN echo last"] == MISS
    assert me("plan", "--cache-ttl=1h", me.folder / "context").status == 0
    assert "run" in me("plan", "--cache-ttl=0.001s", me.folder / "context", status=3).stdout
    assert steps(me)["RUN echo last"] == HIT, "what was made anew is kept"
    assert "not a duration" in me("build", "--cache-ttl=soon", me.folder / "context", status=2).stderr


def test_no_cache_still_writes(me: Pybuild) -> None:
    me.context({"Dockerfile": TTL, "f": "f\n"})
    for options, expected in (("--no-cache",), MISS), (("--no-cache",), MISS), ((), HIT):
        found = steps(me, *options)
        assert {verdict for name, verdict in found.items() if not name.startswith("FROM")} == {expected}


def policy(pybuild: Pybuild, text: str) -> None:
    place = pybuild.folder / "home" / ".config" / "pybuild"
    place.mkdir(parents=True, exist_ok=True)
    (place / "gc.toml").write_text(text)
    pybuild.person.own(pybuild.folder / "home")


def copy(pybuild: Pybuild, name: str, *options: str, size: int = 3_000_000) -> None:
    """Build a layer of a given size."""
    place = pybuild.context({"Dockerfile": f"FROM scratch\nCOPY f /{name}\n", "f": os.urandom(size)})
    pybuild("build", "-q", "-o", "type=cacheonly", *options, place)


def kept(pybuild: Pybuild) -> list[str]:
    lines = pybuild("cache", "ls", "--format=json", "--filter=type=regular").stdout.splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    copies = [row["Description"] for row in rows if "COPY" in row["Description"]]
    return sorted(text.rpartition("/")[2] for text in copies)


ALL = 'interval = "0s"\n[[policy]]\nmaxUsedSpace = "10MB"\n'


def test_a_build_collects_what_is_too_much(pybuild: Pybuild) -> None:
    policy(pybuild, ALL)
    for name in ("a", "b", "c", "d"):
        copy(pybuild, name)
    assert kept(pybuild) == ["b", "c", "d"]
    place = pybuild.context({"Dockerfile": "FROM scratch\nCOPY f /image\n", "f": os.urandom(3_000_000)})
    pybuild("build", "-q", "-t", "app:1", place)
    assert kept(pybuild) == ["b", "c", "d", "image"], "what an image stands on doesn't count"
    copy(pybuild, "e")
    assert kept(pybuild) == ["c", "d", "e", "image"]
    pybuild("build", "-q", "-t", "app:1", place)
    pybuild.check_store()


@contextmanager
def sleeper(pybuild: Pybuild, name: str) -> Iterator[None]:
    """A build that runs until it is left, and must not notice that others are collecting."""
    text = f"FROM busybox\nRUN echo {name} > /f\nRUN echo started; sleep 100\n"
    with pybuild.start("build", "--progress=plain", pybuild.context({"Dockerfile": text}, name)) as process:
        assert process.stderr is not None
        assert any(" started" in line for line in process.stderr)
        yield
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_builds_that_always_overlap_are_no_hindrance(pybuild: Pybuild) -> None:
    """A step is forgotten at once; its files go when the builds have ended that may have found it."""
    policy(pybuild, ALL)

    def on_disk() -> list[str]:
        return sorted(p.name for p in (pybuild.store / "snapshots").glob("*/*/fs/?") if p.name in "abcdex")

    with ExitStack() as second:
        with sleeper(pybuild, "first"):
            for name in ("a", "b", "c", "d"):
                copy(pybuild, name)
            assert kept(pybuild) == ["b", "c", "d"]
            assert on_disk() == ["a", "b", "c", "d"]
            second.enter_context(sleeper(pybuild, "second"))
        copy(pybuild, "e")
        assert kept(pybuild) == ["c", "d", "e"]
        assert on_disk() == ["b", "c", "d", "e"]
    copy(pybuild, "x")
    assert kept(pybuild) == ["d", "e", "x"]
    assert on_disk() == ["d", "e", "x"]
    pybuild.check_store()


def test_a_wrong_policy_is_told_and_no_build_fails(me: Pybuild) -> None:
    policy(me, "policy = 5\n")
    place = me.context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    assert "gc.toml: policy is no list" in me("build", "--progress=plain", place).stderr


@pytest.mark.parametrize("text", ["", "enabled = false\n", 'interval = "1h"\n' + ALL.split("\n", 1)[1]])
def test_when_nothing_is_collected(me: Pybuild, text: str) -> None:
    if text:
        policy(me, text)
    for name in ("a", "b", "c", "d"):
        copy(me, name)
    assert kept(me) == ["a", "b", "c", "d"]


EDITED = {
    "copy": "COPY d /d\nRUN cp /d/f /out\nRUN true\n",
    "link": "COPY d /d\nRUN readlink /d/l > /out\n",
    "linked": "COPY --link d /d\nRUN cp /d/f /out\n",
    "bind": "RUN --mount=source=d,target=/d cp /d/f /out\nRUN true\n",
    "archive": "ADD d/a.tar /\nRUN cp /f /out\n",
    "stage": "COPY d /d\nFROM busybox\nRUN --mount=from=a,source=/d,target=/d cp /d/f /out\n",
}


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    return member


@pytest.mark.parametrize("text", EDITED.values(), ids=EDITED)
def test_an_edit_while_a_build_runs(me: Pybuild, text: str) -> None:
    """What is made of it is kept under no key: once the edit is undone, the old files are found."""
    gate = "FROM busybox AS a\nRUN --mount=source=gate,target=/gate echo begun; cat /gate/p\n"
    place = me.context({"Dockerfile": gate + text, "d/f": "", "gate/x": ""})
    os.mkfifo(place / "gate" / "p")

    def edit(content: str) -> None:
        (place / "d" / "f").write_text(content)
        (place / "d" / "l").unlink(missing_ok=True)
        (place / "d" / "l").symlink_to(content.strip())
        with tarfile.open(place / "d" / "a.tar", "w") as tar:
            tar.add(place / "d" / "f", "f", filter=plain)
        me.person.own(place)

    edit("old\n")
    with me.start("build", "--progress=plain", "-t", "x", place) as process:
        assert process.stderr is not None
        assert any(line.endswith(" begun\n") for line in process.stderr)
        edit("new\n")
        (place / "gate" / "p").write_text("")
        _, told = process.communicate(timeout=60)
    # A copy that needs no base was made before.
    assert process.returncode == 0 and ("changed while the build ran" in told or "--link" in text)
    edit("old\n")
    me("build", "-t", "x", place)
    assert me("run", "--rm", "x", "cat", "/out").stdout == "old\n"
