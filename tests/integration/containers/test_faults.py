"""Faults: what is killed, full or done twice leaves a state that is true, and nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.linux import cgroups
from buildkit_py.network.filter import HOST_DEVICES
from buildkit_py.network.uplink import host_device
from buildkit_py.request import Limits
from tests.support import leaks
from tests.support.containers import ready, state, supervisor_of
from tests.support.runner import Pybuild

PARENT = f"pybuild-faults-{os.getpid()}"
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


@pytest.mark.needs("root")
@pytest.mark.parametrize("processes", [1, 2])
def test_no_room_for_another_process(root: Pybuild, processes: int) -> None:
    """Not for the supervisor, or not for what starts its sandbox."""
    root("pull", "busybox")
    group, missing = cgroups.create(f"{PARENT}-{processes}", Limits(pids=processes))
    assert not missing
    (directory,) = group.directories
    try:
        failed = root(
            *("run", "--rm", "--network", "host", "busybox", "true"),
            status=125,
            preexec_fn=lambda: Path(directory, "cgroup.procs").write_text("0"),
        )
        assert failed.stderr.splitlines()[-1] == (
            "hint: the limit of processes is reached: raise it with `ulimit -u`"
        )
        assert root("ps", "-aq").stdout == ""
    finally:
        # The supervisor may still be on its way out.
        while Path(directory).exists():
            group.remove()


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
        told = state(pybuild, "box")
        assert (told["Running"], told["ExitCode"]) == (False, 137), f"process {number} of {len(ours)}"
        pybuild("start", "box")
    pybuild("rm", "-f", "box")
    assert leaks.leaked(before) == ""


def kept_elsewhere(pybuild: Pybuild) -> set[str]:
    """Control groups of ours, and network devices, which no list of processes shows. Those of other stores
    are left out, for other tests may run beside this one."""
    own = host_device(f"{pybuild.store}/network")
    names = (n for n in os.listdir("/sys/class/net") if n == own or not n.startswith(HOST_DEVICES))
    found = {f"device {name}" for name in names}
    mounted = cgroups.hierarchies()
    for point in {mounted.unified, *mounted.single.values()} - {""}:
        found |= {str(path) for path in Path(point).glob(f"**/{PARENT}/**/")}
    return found


def full(pybuild: Pybuild, name: str) -> tuple[str, ...]:
    """The words of a container that has all there is to have: a network, a port, a volume, limits."""
    pybuild("network", "create", "net", status=None)
    return (
        *("-d", "--name", name, "--network", "net", "-p", "80", "-v", "vol:/v", "--tmpfs", "/t"),
        *(f"--cgroup-parent=/{PARENT}", "--pids-limit", "50", "--memory", "100m"),
        *("busybox", "sh", "-c", "echo ready; sleep 1000"),
    )


def without_parent() -> None:
    mounted = cgroups.hierarchies()
    for point in {mounted.unified, *mounted.single.values()} - {""}:
        if Path(point, PARENT).is_dir():
            Path(point, PARENT).rmdir()


@pytest.mark.parametrize("victim", ["supervisor", "first process", "all at once"])
def test_nothing_of_a_container_that_has_everything_is_left(pybuild: Pybuild, victim: str) -> None:
    """Mounts, processes, control groups and network devices, counted before and after. All at once is what a
    restart of the machine leaves: files, and no process that they tell of."""
    before, elsewhere = leaks.held(), kept_elsewhere(pybuild)
    words = full(pybuild, "box")
    pybuild("run", *words)
    ready(pybuild, "box")
    number = state(pybuild, "box")["Pid"]
    assert isinstance(number, int)
    if victim == "supervisor":
        os.kill(supervisor_of(pybuild, "box"), signal.SIGKILL)
    elif victim == "first process":
        os.kill(number, signal.SIGKILL)
    else:
        for pid, _ in leaks.held().processes - before.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert pybuild("wait", "box").stdout == "137\n"
    found = state(pybuild, "box")
    assert (found["Status"], found["Running"], found["Pid"]) == ("exited", False, 0)
    if victim == "all at once":
        # Control groups don't outlive the machine.
        folders = [path for path in kept_elsewhere(pybuild) - elsewhere if path.startswith("/")]
        for folder in sorted(folders, key=len, reverse=True):
            Path(folder).rmdir()
    pybuild("start", "box")
    assert pybuild("exec", "box", "echo", "in").stdout == "in\n"
    assert pybuild("port", "box").stdout
    pybuild("rm", "-f", "box")
    pybuild("network", "rm", "net")
    pybuild("volume", "rm", "vol")
    assert leaks.leaked(before) == ""
    without_parent()
    # The kernel takes a network namespace down by the way.
    assert leaks.patiently(lambda: frozenset(kept_elsewhere(pybuild) - elsewhere), frozenset()) == []


def test_two_removals_at_once(pybuild: Pybuild) -> None:
    """Of a container that runs, and of one that doesn't: it is gone, and nobody fails but by finding
    that out."""
    for words in (("run", "-d"), ("create",)):
        for _ in range(3):
            pybuild(*words, "--name", "box", "-v", "/v", "busybox", "sleep", "1000")
            both = [pybuild.start("rm", "-f", "-v", "box") for _ in range(3)]
            errors = [process.communicate(timeout=60)[1] for process in both]
            assert 0 in [process.returncode for process in both], errors
            assert all("no such container" in error for error in errors if error), errors
            assert pybuild("ps", "-aq").stdout == ""
            assert pybuild("volume", "ls", "-q").stdout == ""
    assert list((pybuild.store / "containers" / ".trash").glob("*")) == []


def test_two_starts_at_once(pybuild: Pybuild) -> None:
    """One supervisor, and both find it running."""
    before = leaks.held()
    pybuild("create", "--name", "box", "-p", "80", "busybox", "sh", "-c", "echo ready; sleep 1000")
    for _ in range(3):
        several = [pybuild.start("start", "box") for _ in range(3)]
        errors = [process.communicate(timeout=60)[1] for process in several]
        assert [process.returncode for process in several] == [0, 0, 0], errors
        assert state(pybuild, "box")["Running"] is True
        log = pybuild("logs", "box").stdout
        pybuild("kill", "box")
        pybuild("wait", "box")
    assert log == "ready\n" * 3
    pybuild("rm", "box")
    assert leaks.leaked(before) == ""


def test_run_is_killed_at_any_moment(pybuild: Pybuild) -> None:
    """SIGKILL: the container is not there, or is whole; then it can be removed, and nothing is left."""
    pybuild("pull", "busybox")
    before = leaks.held()
    for hundredth in range(1, 31, 2):
        with pybuild.start("run", "--rm", "-v", "/v", "busybox", "sleep", "1000") as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(hundredth / 100)
            process.kill()
    for name in pybuild("ps", "-aq").stdout.split():
        assert state(pybuild, name)["Status"] in ("created", "running", "exited")
        pybuild("rm", "-f", "-v", name, status=None)
    assert pybuild("ps", "-aq").stdout == ""
    pybuild("container", "prune", "-f")
    pybuild("volume", "prune", "-af", status=None)
    assert pybuild("volume", "ls", "-q").stdout == ""
    assert [path.name for path in (pybuild.store / "containers").iterdir() if path.name[0] != "."] == []
    assert pybuild("run", "--rm", "busybox", "echo", "again").stdout == "again\n"
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


def test_who_paused_a_container_to_read_it_is_killed(me: Pybuild) -> None:
    """It goes on; and where two read it, when the last has ended."""
    me("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo ready; sleep 1000")
    ready(me, "box")
    with (
        me.start("export", "box", text=False, errors=None) as one,
        me.start("export", "box", text=False, errors=None) as two,
    ):
        # A megabyte of busybox does not fit into a pipe: both are stopped in the middle.
        assert one.stdout and two.stdout
        for process in (one, two):
            assert process.stdout and process.stdout.read(1)
            os.kill(process.pid, signal.SIGSTOP)
        assert state(me, "box")["Status"] == "paused"
        one.kill()
        one.wait()
        with me.start("exec", "box", "echo", "went on") as waiting:
            assert state(me, "box")["Status"] == "paused"
            two.kill()
            two.wait()
            assert waiting.communicate()[0] == "went on\n"
        with me.start("events", "-f", "event=unpause", "--since", "10m") as events:
            assert events.stdout and events.stdout.readline()
            events.kill()
    assert me("exec", "box", "echo", "on").stdout == "on\n"
    me("pause", "box")
    me("diff", "box")
    assert state(me, "box")["Status"] == "paused"
    me("unpause", "box")
    me("rm", "-f", "box")
