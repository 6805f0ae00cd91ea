"""The life of a container, as every kind of user: what each command does, and what is left."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess

import pytest

from tests.support.containers import ready, state, supervisor_of
from tests.support.runner import Pybuild

UNTIL_TERM = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"


def test_from_create_to_rm(pybuild: Pybuild) -> None:
    created = pybuild("create", "--name", "web", "busybox", "sh", "-c", UNTIL_TERM).stdout.strip()
    assert len(created) == 64
    assert state(pybuild, "web")["Status"] == "created"
    assert pybuild("ps", "-q").stdout == ""
    assert pybuild("ps", "-aq", "--no-trunc").stdout.strip() == created
    assert pybuild("start", "web").stdout == "web\n"
    ready(pybuild, "web")
    running = state(pybuild, "web")
    assert running["Running"] is True
    assert os.path.isdir(f"/proc/{running['Pid']}")
    assert pybuild("ps", "--format", "{{.Names}} {{.State}}").stdout == "web running\n"
    assert "is running" in pybuild("rm", "web", status=1).stderr
    assert pybuild("stop", "web").stdout == "web\n"
    assert state(pybuild, "web")["ExitCode"] == 7
    assert pybuild("wait", "web").stdout == "7\n"
    assert pybuild("stop", "web").stdout == "web\n"
    assert "not running" in pybuild("kill", "web", status=1).stderr
    pybuild("restart", "web")
    assert state(pybuild, "web")["Running"] is True
    pybuild("kill", "web")
    assert pybuild("wait", "web").stdout == "137\n"
    assert pybuild("rm", "web").stdout == "web\n"
    assert pybuild("ps", "-aq").stdout == ""
    assert "no such container" in pybuild("rm", "web", status=1).stderr


def test_files_stay_from_run_to_run(pybuild: Pybuild) -> None:
    pybuild("run", "--name", "keeper", "busybox", "sh", "-c", "cat /kept; echo more >> /kept")
    assert pybuild("start", "-a", "keeper").stdout == "more\n"
    assert pybuild("start", "-a", "keeper").stdout == "more\nmore\n"
    pybuild("rm", "keeper")


def test_detached_output_is_in_the_log_and_apart(pybuild: Pybuild) -> None:
    name = pybuild("run", "-d", "busybox", "sh", "-c", "echo out; echo err >&2; echo last").stdout.strip()
    assert pybuild("wait", name).stdout == "0\n"
    logs = pybuild("logs", name)
    assert (logs.stdout, logs.stderr) == ("out\nlast\n", "err\n")
    assert pybuild("logs", "--tail", "0", name).text == ""
    assert pybuild("logs", "--tail", "2", name).text in ("last\nerr\n", "out\nlast\n")
    pybuild("rm", name)
    name = pybuild("run", "-d", "busybox", "sh", "-c", "echo first; sleep 0.1; echo last").stdout.strip()
    pybuild("wait", name)
    lines = [line.partition(" ") for line in pybuild("logs", "-t", name).stdout.splitlines()]
    assert [text for _, _, text in lines] == ["first", "last"]
    time = lines[1][0]
    assert time.endswith("Z")
    # On a busy machine the two may have come together.
    since = [text for stamp, _, text in lines if stamp >= time]
    assert pybuild("logs", "--since", time, name).text.splitlines() == since
    assert "last" not in pybuild("logs", "--until", "2000-01-01", name).text
    pybuild("rm", name)


@pytest.mark.parametrize("detached", [False, True])
def test_a_command_that_isnt_there(pybuild: Pybuild, detached: bool) -> None:
    flags = ["-d"] if detached else []
    result = pybuild("run", "--rm", *flags, "busybox", "no-such-command", status=127)
    assert "no-such-command" in result.stderr and "not found" in result.stderr
    assert pybuild("ps", "-aq").stdout == ""


def test_exit_statuses(me: Pybuild) -> None:
    me("run", "--rm", "busybox", "sh", "-c", "exit 3", status=3)
    me("run", "--rm", "busybox", "sh", "-c", "kill -9 $$ ; sleep 1; exit 4", status=4)
    me("run", "--rm", "busybox", "/etc", status=126)
    me("run", "--rm", "--no-such-option", "busybox", status=125)
    me("run", "--rm", "-u", "nobody-knows", "busybox", "true", status=125)
    assert me("ps", "-aq").stdout == ""


def test_rm_is_gone_with_its_volumes_and_its_name(pybuild: Pybuild) -> None:
    for _ in range(2):
        pybuild("run", "--rm", "--name", "once", "-v", "/data", "busybox", "touch", "/data/x")
    assert pybuild("ps", "-aq").stdout == ""
    # What went may still be on its way out of the trash.
    left = [name for name in os.listdir(pybuild.store / "volumes") if not name.startswith(".trash-")]
    assert left == [".lock"]


def test_two_at_once(pybuild: Pybuild) -> None:
    """Two starts, and two removals, of one container at the same moment."""
    pybuild("create", "--name", "web", "busybox", "sh", "-c", UNTIL_TERM)
    starts = [pybuild.start("start", "web") for _ in range(2)]
    assert [process.wait() for process in starts] == [0, 0], [p.stderr.read() for p in starts if p.stderr]
    for process in starts:
        process.communicate()
    assert pybuild("logs", "web").stdout.count("ready") <= 1
    removals = [pybuild.start("rm", "-f", "web") for _ in range(2)]
    for process in removals:
        process.communicate()
    assert [process.returncode for process in removals] == [0, 0]
    assert pybuild("ps", "-aq").stdout == ""


@pytest.mark.parametrize("removed", [False, True])
def test_the_supervisor_is_killed(pybuild: Pybuild, removed: bool) -> None:
    flags = ["--rm"] if removed else []
    pybuild("run", "-d", *flags, "--name", "web", "busybox", "sh", "-c", UNTIL_TERM)
    ready(pybuild, "web")
    pid = state(pybuild, "web")["Pid"]
    pidfd = os.pidfd_open(int(str(pid)))
    os.kill(supervisor_of(pybuild, "web"), signal.SIGKILL)
    _gone(pidfd)
    found = state(pybuild, "web")
    assert (found["Status"], found["ExitCode"], found["Pid"]) == ("exited", 137, 0)
    assert "supervisor was killed" in str(found["Error"])
    assert state(pybuild, "web")["FinishedAt"] == found["FinishedAt"], "not the time of the look"
    assert str(found["FinishedAt"]) >= str(found["StartedAt"])
    assert pybuild("start", "web").stdout == "web\n"
    ready(pybuild, "web")
    pybuild("rm", "-f", "web")


def test_after_boot(pybuild: Pybuild) -> None:
    """What a restart of the machine ends, supervisors with it, is started again where its policy says so."""
    for name, policy in (("a", "always"), ("b", "always"), ("u", "unless-stopped"), ("v", "unless-stopped")):
        pybuild("run", "-d", "--name", name, "--restart", policy, "busybox", "sh", "-c", UNTIL_TERM)
    pybuild("run", "-d", "--name", "n", "busybox", "sh", "-c", UNTIL_TERM)
    pybuild("create", "--name", "c", "--restart", "always", "busybox", "true")
    pybuild("stop", "b", "v")
    for name in ("a", "u", "n"):
        ready(pybuild, name)
        pidfd = os.pidfd_open(int(str(state(pybuild, name)["Pid"])))
        os.kill(supervisor_of(pybuild, name), signal.SIGKILL)
        _gone(pidfd)
    assert pybuild("ps", "-q").stdout == ""
    assert pybuild("start", "--after-boot").stdout.split() == ["a", "b", "u"]
    assert sorted(pybuild("ps", "--format", "{{.Names}}").stdout.split()) == ["a", "b", "u"]
    assert pybuild("start", "--after-boot").stdout == ""
    assert "chooses the containers" in pybuild("start", "--after-boot", "n", status=2).stderr
    assert "name a container" in pybuild("start", status=2).stderr
    pybuild("rm", "-f", "a", "b", "u", "v", "n", "c")


def _gone(pidfd: int) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(10_000), "the container outlives its supervisor"
    os.close(pidfd)


def test_the_first_process_is_killed(pybuild: Pybuild) -> None:
    pybuild("run", "-d", "--name", "web", "busybox", "sh", "-c", UNTIL_TERM)
    os.kill(int(str(state(pybuild, "web")["Pid"])), signal.SIGKILL)
    assert pybuild("wait", "web").stdout == "137\n"
    assert state(pybuild, "web")["Status"] == "exited"
    pybuild("rm", "web")


def test_a_restart_has_happened_when_it_says_so(pybuild: Pybuild) -> None:
    pybuild("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    for _ in range(4):
        before = state(pybuild, "web")
        pybuild("restart", "-t", "0", "web")
        assert pybuild("exec", "web", "cat", "/proc/1/comm").stdout == "sleep\n"
        after = state(pybuild, "web")
        assert after["Pid"] != before["Pid"] and after["StartedAt"] != before["StartedAt"]
    pybuild("rm", "-f", "web")


def test_restart_policies(pybuild: Pybuild) -> None:
    pybuild(
        "run", "-d", "--name", "again", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo x; exit 1"
    )
    logs = pybuild("logs", "-f", "again").stdout
    assert pybuild("wait", "again").stdout == "1\n"
    assert logs.count("x") == 3 or pybuild("logs", "again").stdout.count("x") == 3
    assert pybuild("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again").stdout == "2 exited\n"
    pybuild("rm", "again")
    pybuild("run", "-d", "--name", "always", "--restart", "always", "busybox", "sh", "-c", UNTIL_TERM)
    ready(pybuild, "always")
    pybuild("stop", "always")
    assert state(pybuild, "always")["Status"] == "exited"
    pybuild("rm", "always")


def test_bytes_of_any_kind_go_through_whole(pybuild: Pybuild) -> None:
    """30 MB of noise in and out again; with -i a file is stdin, and its end is the command's."""
    data = os.urandom(30 << 20)
    source = pybuild.out / "noise"
    source.write_bytes(data)
    words = ("run", "--rm", "-q", "-i", "--log-driver", "none", "busybox")
    with (
        open(source, "rb") as stdin,
        pybuild.start(*words, "cat", stdin=stdin, text=False, errors=None) as process,
    ):
        out, errors = process.communicate(timeout=120)
    assert (process.returncode, errors[-200:]) == (0, b"")  # type: ignore[comparison-overlap]
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()  # type: ignore[arg-type]


def test_who_is_attached_twice_sees_the_same(me: Pybuild) -> None:
    script = "read line; echo got $line; read line; echo got $line"
    me("run", "-d", "-i", "--name", "box", "busybox", "sh", "-c", script)
    with (
        me.start("attach", "box", stdin=subprocess.PIPE) as one,
        me.start("attach", "box", stdin=subprocess.PIPE) as two,
    ):
        # The second is attached when it has had a word.
        assert one.stdin and two.stdin and one.stdout and two.stdout
        two.stdin.write("first\n")
        two.stdin.flush()
        assert two.stdout.readline() == "got first\n"
        one.stdin.write("second\n")
        one.stdin.flush()
        assert one.stdout.readlines()[-1] == "got second\n"
        assert two.stdout.read() == "got second\n"
        assert (one.wait(30), two.wait(30)) == (0, 0)
    me("rm", "box")


def test_output_that_nobody_takes_ends_the_container(me: Pybuild) -> None:
    me("pull", "busybox")
    with open("/dev/full", "w") as full:
        assert "No space left" in me("run", "--rm", "busybox", "yes", stdout=full, status=125).stderr
    assert me("ps", "-aq").stdout == ""


def test_all_are_told_to_stop_before_one_is_waited_for(pybuild: Pybuild) -> None:
    """Else ten that don't listen would take ten times the patience for one."""
    for flags, name in (((), "one"), (("--rm",), "two")):
        pybuild("run", "-d", *flags, "--name", name, "busybox", "sleep", "1000")
    stopped = pybuild("stop", "-t", "1", "one", "none", "two", status=1)
    assert (stopped.stdout, "no such container: none" in stopped.stderr) == ("one\ntwo\n", True)
    now = ("events", "--since", "1h", "--until", "0s", "-f", "event=kill", "-f", "event=die")
    assert pybuild(*now, "--format", "{{.Action}}").stdout.split()[:3] == ["kill", "kill", "kill"]
    pybuild("rm", "one")
