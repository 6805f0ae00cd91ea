"""Faults: what is killed, full or done twice leaves a state that is true, and nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.containers import ready, state, supervisor_of
from tests.support.runner import Pybuild

LOUD = "echo ready; while :; do head -c 100000 /dev/zero | tr '\\0' x; echo; done"


@pytest.fixture
def small(root: Pybuild) -> Iterator[Pybuild]:
    """A store on a disk of 24 MiB, which holds the image."""
    place = root.folder / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=True)
    root.environment["PYBUILD_ROOT"] = str(place / "store")
    root("pull", "busybox")
    yield root
    for path in place.glob("filler"):
        path.unlink()
    root("rm", "-f", *root("ps", "-aq", status=None).stdout.split(), "none", status=None)
    subprocess.run(["umount", place], check=True)


def fill(pybuild: Pybuild) -> Path:
    """Take what is left of the disk."""
    path = Path(pybuild.environment["PYBUILD_ROOT"]).parent / "filler"
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(b"x")
        except OSError:
            pass
    return path


@pytest.mark.needs("root")
def test_a_full_disk_loses_lines_and_not_the_state(small: Pybuild) -> None:
    small("run", "-d", "--name", "loud", "busybox", "sh", "-c", LOUD)
    ready(small, "loud")
    filler = fill(small)
    assert state(small, "loud")["Running"] is True
    # What can't be written is no reason to end, or to hang.
    assert small("exec", "loud", "echo", "still here").stdout == "still here\n"
    small("exec", "loud", "sh", "-c", "head -c 10000000 /dev/zero > /x", status=1)
    small("kill", "loud")
    assert small("wait", "loud").stdout == "137\n"
    assert (state(small, "loud")["Status"], state(small, "loud")["ExitCode"]) == ("exited", 137)
    failed = small("run", "--name", "other", "busybox", "true", status=125).stderr
    assert "No space left" in failed or "full" in failed
    filler.unlink()
    assert small("ps", "-a", "--format", "{{.Names}}").stdout == "loud\n"
    small("rm", "loud")
    assert small("run", "--rm", "busybox", "echo", "again").stdout == "again\n"


@pytest.mark.needs("root")
def test_a_container_can_be_removed_from_a_full_disk(small: Pybuild) -> None:
    small("run", "--name", "big", "busybox", "sh", "-c", "head -c 4000000 /dev/zero > /x")
    filler = fill(small)
    small("rm", "big")
    assert small("ps", "-aq").stdout == ""
    filler.unlink()


def test_everything_of_a_container_is_killed_in_turn(pybuild: Pybuild) -> None:
    """Whatever process goes, the container is known to have ended, and what it had is given back."""
    before = leaks.held()
    command = ("busybox", "sh", "-c", "echo ready; sleep 1000")
    pybuild("run", "-d", "--name", "box", "--network", "none", *command)
    ready(pybuild, "box")
    count = len(leaks.held().processes - before.processes)
    for number in range(count):
        ready(pybuild, "box")
        ours = sorted(pid for pid, _ in leaks.held().processes - before.processes)
        if number >= len(ours):
            break
        os.kill(ours[number], signal.SIGKILL)
        pybuild("wait", "box")
        assert state(pybuild, "box")["Running"] is False, f"process {number} of {len(ours)}"
        pybuild("start", "box")
    pybuild("rm", "-f", "box")
    assert leaks.leaked(before) == ""


def test_removal_and_start_at_once(pybuild: Pybuild) -> None:
    """One of them wins; the other says so, and nothing is left of either."""
    for _ in range(3):
        pybuild("create", "--name", "box", "busybox", "sleep", "1000")
        both = [pybuild.start("start", "box"), pybuild.start("rm", "box")]
        for process in both:
            process.communicate()
        names = pybuild("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout
        if both[1].returncode == 0:
            assert names == ""
        else:
            assert both[0].returncode == 0 and names == "box running\n"
            pybuild("rm", "-f", "box")


def test_the_same_name_at_once(pybuild: Pybuild) -> None:
    pybuild("pull", "busybox")
    several = [pybuild.start("create", "--name", "box", "busybox") for _ in range(4)]
    errors = [process.communicate()[1] for process in several]
    assert sorted(process.returncode for process in several) == [0, 1, 1, 1]
    assert sum("in use" in error for error in errors) == 3
    assert len(pybuild("ps", "-aq").stdout.split()) == 1
    pybuild("rm", "box")


def test_a_supervisor_that_is_stopped_by_the_system(pybuild: Pybuild) -> None:
    """As when the machine goes down: the container gets its stop signal first."""
    script = "trap 'echo going; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    pybuild("run", "-d", "--name", "box", "--restart", "always", "busybox", "sh", "-c", script)
    ready(pybuild, "box")
    os.kill(supervisor_of(pybuild, "box"), signal.SIGTERM)
    assert pybuild("wait", "box").stdout == "3\n"
    assert "going" in pybuild("logs", "box").stdout
    assert state(pybuild, "box")["Status"] == "exited"
    pybuild("rm", "box")


def test_signals_that_come_at_any_moment(me: Pybuild) -> None:
    """An interrupt of ``run`` is never lost: it ends, and so does its container."""
    me("pull", "busybox")
    script = "trap 'exit 9' INT TERM; while :; do sleep 0.02; done"
    for hundredth in range(0, 20, 2):
        with me.start("run", "--rm", "busybox", "sh", "-c", script) as process:
            timer = threading.Timer(hundredth / 100, process.terminate)
            timer.start()
            # One that came before the container could hear it is sent again, as people do.
            while process.poll() is None:
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    process.terminate()
            timer.join()
    assert me("ps", "-aq").stdout == ""


def test_a_reader_that_goes_away_ends_the_container(me: Pybuild) -> None:
    with me.start("run", "--rm", "busybox", "sh", "-c", LOUD) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 141
    assert me("ps", "-aq").stdout == ""


def test_a_reader_that_stands_still_loses_nothing(me: Pybuild) -> None:
    """A slow client holds the container up; the log has all, and so has the client."""
    count = 20000
    script = f"n=0; while [ $n -lt {count} ]; do n=$((n+1)); echo line $n; done"
    me("create", "--name", "box", "busybox", "sh", "-c", script)
    with me.start("start", "-a", "box") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        assert state(me, "box")["Running"] is True
        os.kill(process.pid, signal.SIGCONT)
        rest = process.stdout.read()
    expected = "".join(f"line {n}\n" for n in range(1, count + 1))
    assert first + rest == expected
    assert me("logs", "box").stdout == expected
    me("rm", "box")


@pytest.mark.slow
def test_fifty_at_once(me: Pybuild) -> None:
    before = leaks.held()
    me("pull", "busybox")
    started = [me.start("run", "-d", "--name", f"box{n}", "busybox", "sleep", "1000") for n in range(50)]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert len(me("ps", "-q").stdout.split()) == 50
    me("rm", "-f", *(f"box{n}" for n in range(50)))
    assert me("ps", "-aq").stdout == ""
    assert leaks.leaked(before) == ""
