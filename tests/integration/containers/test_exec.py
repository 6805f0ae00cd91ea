"""exec: more processes in a container that runs, kept as far apart from the machine as its first one."""

from __future__ import annotations

import pytest

from tests.support.containers import ready, state
from tests.support.runner import Pybuild

WAITING = ("busybox", "sh", "-c", "echo ready; sleep 1000")


@pytest.fixture
def box(pybuild: Pybuild) -> Pybuild:
    """A pybuild with a running container of that name, to be removed by the test."""
    pybuild("run", "-d", "--name", "box", "-e", "FROM=run", *WAITING)
    ready(pybuild, "box")
    return pybuild


def test_exec(box: Pybuild) -> None:
    done = box("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 4", status=4)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert box("exec", "-i", "box", "cat", input="through\n").stdout == "through\n"
    assert box("exec", "box", "cat", input="not through\n").stdout == ""
    assert box("exec", "-e", "A=b", "-w", "/tmp", "box", "sh", "-c", "echo $FROM $A; pwd").stdout == (
        "run b\n/tmp\n"
    )
    assert box("exec", "-u", "7:8", "box", "id").stdout.startswith("uid=7 gid=8")
    # The processes of the container, and no others.
    seen = box("exec", "box", "sh", "-c", "ls -d /proc/[0-9]*").stdout.split()
    assert "/proc/1" in seen and len(seen) <= 4
    box("exec", "-d", "box", "sh", "-c", "echo detached > /tmp/file")
    box("exec", "box", "sh", "-c", "until [ -s /tmp/file ]; do :; done")
    assert "not found" in box("exec", "box", "no-such-command", status=127).stderr
    assert "not found" in box("exec", "-d", "box", "no-such-command", status=127).stderr
    assert "/nowhere" in box("exec", "-w", "/nowhere", "box", "true", status=126).stderr
    assert box("exec", "-u", "nobody-knows", "box", "true", status=126).stderr.startswith("ERROR")
    box("exec", "box", "sh", "-c", "kill -9 $$", status=137)
    # Nothing of all that ended the container; its end ends what runs in it.
    with box.start("exec", "box", "sleep", "2000") as left:
        box("exec", "box", "sh", "-c", "until cat /proc/[0-9]*/cmdline | grep -q 'sleep.2000'; do :; done")
        box("kill", "box")
        assert left.wait(30) == 137
    assert "is not running" in box("exec", "box", "true", status=1).stderr
    box("rm", "box")


def test_exec_has_no_more_privileges_than_the_container(box: Pybuild) -> None:
    text = "grep -E 'Cap(Eff|Bnd|Inh|Amb)|NoNewPrivs|Seccomp:' /proc/$PID/status"
    first = box("exec", "box", "sh", "-c", f"PID=1; {text}").stdout
    second = box("exec", "box", "sh", "-c", f"PID=self; {text}").stdout
    assert first == second
    assert "Seccomp:\t2" in first
    for forbidden in ("mount -t tmpfs x /mnt", "unshare -m true", "mknod /d b 8 0 && cat /d | grep -q ."):
        assert box("exec", "box", "sh", "-c", forbidden, status=None).status != 0
    assert box("exec", "box", "sh", "-c", "ls /proc/self/fd | wc -l").stdout.strip() <= "4"
    box("rm", "-f", "box")


def test_owners_are_kept_by_exec(box: Pybuild) -> None:
    """Also where they can only be recorded; and a daemon that was left may go on changing them."""
    box("exec", "box", "sh", "-c", "touch /a; chown 5:6 /a; ln -s a /l; chown -h 7:8 /l")
    script = "(until [ -e /go ]; do :; done; touch /b; chown 9:9 /b && touch /done) >/dev/null 2>&1 &"
    box("exec", "box", "sh", "-c", script)
    box("exec", "box", "sh", "-c", "touch /go; until [ -e /done ]; do :; done")
    box("stop", "-t", "0", "box")
    assert state(box, "box")["ExitCode"] == 137
    box("rm", "box")
