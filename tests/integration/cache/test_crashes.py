"""Builds that share a store at the same time, and builds that are killed: each result is right, nothing is
made twice, nothing is left."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.people import available
from tests.support.runner import Pybuild

SHARED = """\
FROM busybox AS one
COPY f /
RUN --mount=type=cache,target=/c,id=count echo one >> /c/ran && sleep 0.3 && cat /f > /one
RUN --mount=type=cache,target=/c,id=count echo two >> /c/ran && cp /one /two
FROM busybox AS other
RUN --mount=type=cache,target=/c,id=count echo three >> /c/ran && sleep 0.3 && echo 3 > /three
FROM one
COPY --from=other /three /
ARG OWN
RUN --mount=type=cache,target=/c,id=count echo own $OWN >> /c/ran && echo $OWN > /own
"""


def test_builds_at_once_run_each_shared_step_once(pybuild: Pybuild) -> None:
    context = pybuild.context({"Dockerfile": SHARED, "f": "f\n"})
    running = [
        pybuild.start("build", "--progress=plain", f"--build-arg=OWN={n}", "-t", f"x:{n}", context)
        for n in range(4)
    ]
    for process in running:
        with process:
            _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    look = "FROM busybox\nRUN --mount=type=cache,target=/c,id=count cat /c/ran > /ran\n"
    pybuild("build", "-t", "look", pybuild.context({"Dockerfile": look}, "look"))
    ran = pybuild("run", "--rm", "look", "cat", "/ran").stdout.splitlines()
    assert sorted(ran) == ["one", *(f"own {n}" for n in range(4)), "three", "two"]
    for n in range(4):
        told = pybuild("run", "--rm", f"x:{n}", "cat", "/one", "/two", "/three", "/own").stdout
        assert told == f"f\nf\n3\n{n}\n"
    pybuild.check_store()


def test_a_build_that_waits_for_another_can_be_ended(me: Pybuild) -> None:
    """And it runs the step itself where the other one is killed."""
    context = me.context({"Dockerfile": "FROM busybox\nRUN echo first; sleep 100\n"})
    with me.start("build", "--progress=plain", context) as first:
        wait_for(first, " first\n")
        with me.start("build", "--progress=plain", context) as second:
            wait_for(second, "another build is running this step")
            second.send_signal(signal.SIGINT)
            second.communicate(timeout=30)
            assert second.returncode == 130
        with me.start("build", "--progress=plain", context) as third:
            wait_for(third, "another build is running this step")
            first.kill()
            wait_for(third, " first\n")
            third.send_signal(signal.SIGINT)
            third.communicate(timeout=30)
        first.communicate(timeout=30)


def wait_for(process: object, text: str) -> None:
    for line in process.stderr:  # type: ignore[attr-defined]
        if text in line:
            return
    raise AssertionError(f"'{text}' never came")


BUSY = """\
FROM busybox AS one
COPY salt files /files/
RUN for n in 1 2 3; do cp -r /files /copy$n; done
FROM busybox AS two
COPY salt /
RUN mkdir /two && cat /salt > /two/file && sleep 0.05
FROM scratch
COPY --from=one /copy2 /copy
COPY --from=two /two /two
COPY --link salt /linked/
"""


def busy(pybuild: Pybuild, number: int) -> Path:
    """A context of which no step was built before."""
    files: dict[str, str | bytes] = {f"files/f{n}": f"{n} of {number}\n" for n in range(40)}
    return pybuild.context({"Dockerfile": BUSY, "salt": f"{number}\n", **files})


def expected(number: int) -> dict[str, str]:
    salt = f"{number}\n"
    files = {f"copy/f{n}": f"{n} of {number}\n" for n in range(40)}
    return {"copy/salt": salt, "two/file": salt, "linked/salt": salt, **files}


def built(pybuild: Pybuild, context: Path) -> dict[str, str]:
    """The files of a finished build."""
    path = pybuild.out / "out.tar"
    pybuild("build", "-q", "-o", f"type=tar,dest={path}", context)
    with tarfile.open(path) as tar:
        files = [(m.name, tar.extractfile(m)) for m in tar if m.isfile()]
        return {name: data.read().decode() for name, data in files if data is not None}


def verified(pybuild: Pybuild) -> list[object]:
    return list(json.loads(pybuild("cache", "verify", "--format=json", status=None).stdout)["findings"])


@pytest.mark.slow
def test_killed_at_fifty_moments(people_at_work: Callable[..., Pybuild], bases: object) -> None:
    dice = random.Random(4)
    kinds = available()
    pybuilds = [people_at_work(kind, bases.settings) for kind in kinds]  # type: ignore[attr-defined]
    lengths = []
    for pybuild in pybuilds:
        built(pybuild, busy(pybuild, 0))  # the base image is pulled, and the interpreter's files are read
        began = time.monotonic()
        assert built(pybuild, busy(pybuild, 1)) == expected(1)
        lengths.append(time.monotonic() - began)
    killed, number = 0, 1
    while killed < 50:
        number += 1
        turn = number % len(kinds)
        pybuild = pybuilds[turn]
        context = busy(pybuild, number)
        with pybuild.start(
            "build", "-q", "-o", f"type=tar,dest={pybuild.out}/killed.tar", context
        ) as process:
            moment = dice.uniform(0.0, lengths[turn])
            end_within(process, moment)
        if process.returncode == -signal.SIGKILL:
            killed += 1
        else:
            # It was done sooner than the one that was measured.
            lengths[turn] = moment
        assert built(pybuild, context) == expected(number), f"{pybuild.person.kind} {number}"
    for pybuild in pybuilds:
        assert [f for f in verified(pybuild) if f["kind"] != "left-over"] == []  # type: ignore[index]
        pybuild("prune", "-af")
        assert verified(pybuild) == []
        assert left(pybuild.store) == []


def end_within(process: subprocess.Popen[str], seconds: float) -> None:
    """Kill what has not ended by then."""
    ended = os.pidfd_open(process.pid)
    select.select([ended], [], [], seconds)
    os.close(ended)
    process.kill()
    process.communicate()


def test_the_next_build_removes_what_a_killed_one_left(pybuild: Pybuild) -> None:
    slow = pybuild.context({"Dockerfile": "FROM busybox\nRUN echo x > /x; echo begun; sleep 100\n"}, "slow")
    with pybuild.start("build", "--progress=plain", slow) as process:
        for line in process.stderr or ():
            if line.endswith(" begun\n"):
                break
        process.kill()
        process.communicate()
    assert built(pybuild, busy(pybuild, 1)) == expected(1)
    assert verified(pybuild) == []


def test_lost_layers_are_made_again(pybuild: Pybuild) -> None:
    """As a power cut leaves them, or somebody's rm: rows that name a directory which is not there."""
    context = busy(pybuild, 1)
    pybuild("build", "-q", "-t", "app", context)
    layers = pybuild.store / "snapshots" / pybuild.person.kind.replace("root", "ids")
    names = sorted(path.name for path in layers.iterdir())
    assert len(names) > 6
    for name in names:
        os.rename(layers / name, layers / f"lost-{name}")
        assert built(pybuild, context) == expected(1)
    pybuild("build", "-q", "-t", "app", context)
    assert all(f["mend"] for f in verified(pybuild))  # type: ignore[index]
    assert verified(pybuild) == []


POLICY = 'interval = "0s"\n[[policy]]\nmaxUsedSpace = "1MB"\n'
PIECES = """\
FROM busybox AS one
COPY f /f
RUN cat /f /f > /g
FROM busybox
COPY --from=one /g /g
RUN --mount=type=bind,from=one,source=/f,target=/m md5sum /m /g > /sum
"""


@pytest.mark.slow
def test_collections_while_builds_run(pybuild: Pybuild) -> None:
    """Builds that are over the limit, some of them killed, beside a prune: those that go on are right."""
    settings = pybuild.folder / "home/.config/pybuild"
    settings.mkdir(parents=True)
    (settings / "gc.toml").write_text(POLICY)
    pybuild.person.own(pybuild.folder / "home")
    wrong: list[str] = []

    def work(number: int) -> None:
        dice = random.Random(number)
        for turn in range(10):
            what = dice.randrange(3)
            data = str(what) * 300_000
            context = pybuild.context({"Dockerfile": PIECES, "f": data}, f"context-{number}")
            out = pybuild.out / f"{number}.tar"
            words = ["build", "-q", "-o", f"type=tar,dest={out}", str(context)]
            with pybuild.start(*words, *(["--no-cache"] if turn % 4 == 3 else [])) as process:
                if turn % 5 == 4:
                    end_within(process, dice.uniform(0.0, 0.6))
                    continue
                _, stderr = process.communicate(timeout=300)
            if process.returncode:
                wrong.append(stderr)
                continue
            with tarfile.open(out) as tar:
                found = tar.extractfile("g")
                if found is None or found.read() != (data * 2).encode():
                    wrong.append(f"build {turn} of {number} has other files")

    def prune() -> None:
        while any(builder.is_alive() for builder in builders):
            done = pybuild("cache", "prune", "-f", "--max-used-space=500kB", status=None)
            if done.status:
                wrong.append(done.stderr)

    builders = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    threads = [*builders, threading.Thread(target=prune)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [f for f in verified(pybuild) if f["kind"] != "left-over"] == []  # type: ignore[index]
    pybuild("prune", "-af")
    assert verified(pybuild) == []
    assert left(pybuild.store) == []


def left(store: Path) -> list[str]:
    """Whatever a prune of everything should have removed."""
    found = []
    for folder in ("blobs/sha256", "staging", "snapshots/ids", "snapshots/single", "snapshots/.trash",
                   "containers", "cache-mounts", "contexts"):  # fmt: skip
        place = store / folder
        if place.is_dir():
            found += [f"{folder}/{name}" for name in os.listdir(place) if not name.startswith(".")]
    return sorted(found)
