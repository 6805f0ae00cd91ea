"""What is seen and changed of containers that run: pause, top, stats, update, rename, ps, events."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import ready, state
from tests.support.runner import Pybuild

COUNTING = "echo ready; n=0; while :; do n=$((n+1)); echo $n > /dev/shm/count; done"


@pytest.fixture
def box(pybuild: Pybuild) -> Iterator[Pybuild]:
    pybuild("run", "-d", "--name", "box", "-l", "role=test", "busybox", "sh", "-c", COUNTING)
    ready(pybuild, "box")
    yield pybuild
    pybuild("rm", "-f", "box", status=None)


def test_a_paused_container_stands_still(box: Pybuild) -> None:
    pid = int(str(state(box, "box")["Pid"]))

    def used() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    box("pause", "box")
    assert state(box, "box")["Status"] == "paused"
    assert "(Paused)" in box("ps").stdout
    before = used()
    select.select([], [], [], 0.3)
    assert used() == before
    assert "is paused" in box("exec", "box", "true", status=1).stderr
    assert "not running" in box("pause", "box", status=1).stderr
    box("unpause", "box")
    assert state(box, "box")["Status"] == "running"
    assert "not paused" in box("unpause", "box", status=1).stderr
    box("exec", "box", "test", "-e", "/dev/shm/count")
    box("pause", "box")
    box("stop", "-t", "0", "box")
    assert state(box, "box")["Status"] == "exited"


def test_top_and_stats(box: Pybuild) -> None:
    box("exec", "-d", "box", "sleep", "1000")
    rows = box("top", "box").stdout.splitlines()
    assert rows[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert any("echo ready" in row for row in rows)
    assert any(row.endswith("sleep 1000") for row in rows), "what exec started is the container's, too"
    assert len(rows) == 3
    assert box("top", "box", "-o", "pid,comm").stdout.splitlines()[0].split() == ["PID", "COMMAND"]
    name, cpu, pids = box(
        "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}}"
    ).stdout.split()
    assert name == "box" and pids == "2"
    assert float(cpu.rstrip("%")) > 1
    assert "MEM USAGE / LIMIT" in box("stats", "--no-stream", "box").stdout
    box("kill", "box")
    box("wait", "box")
    assert "not running" in box("top", "box", status=1).stderr
    assert "--" in box("stats", "--no-stream", "box").stdout


def test_rename_update_and_filters(box: Pybuild) -> None:
    box("create", "--name", "other", "-l", "role=other", "-v", "data:/data", "busybox", "true")
    assert "in use" in box("rename", "box", "other", status=1).stderr
    box("rename", "box", "site")
    assert box("ps", "--format", "{{.Names}}").stdout == "site\n"

    def names(*filters: str) -> list[str]:
        flags = [word for text in filters for word in ("-f", text)]
        return sorted(box("ps", "-a", "--format", "{{.Names}}", *flags).stdout.split())

    assert names() == ["other", "site"]
    assert names("name=ite") == names("status=running") == names("label=role=test") == ["site"]
    assert names("status=created") == names("volume=data") == names("since=site") == ["other"]
    assert names("before=other") == ["site"]
    assert names("ancestor=busybox") == ["other", "site"]
    assert names("ancestor=debian") == names("status=exited") == []
    assert box("ps", "-lq", "--no-trunc").stdout == box("inspect", "-f", "{{.Id}}", "other").stdout
    assert len(box("ps", "-n", "1", "-q").stdout.split()) == 1
    assert "unknown filter" in box("ps", "-f", "nonsense=1", status=2).stderr
    assert "kB" in box("ps", "-s").stdout or "B (virtual" in box("ps", "-s").stdout
    assert json.loads(box("ps", "--format", "json").stdout)["Names"] == "site"
    box("update", "--restart", "on-failure:3", "site", "other")
    policy = box("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "site").stdout
    assert json.loads(policy) == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert "nothing is to be changed" in box("update", "site", status=2).stderr
    box("rm", "-f", "site", "other")


def test_an_updated_policy_counts(box: Pybuild) -> None:
    """The supervisor that runs already goes by it."""
    box("update", "--restart", "always", "box")
    with box.start("events", "-f", "event=start") as process:
        os.kill(int(str(state(box, "box")["Pid"])), 9)
        assert process.stdout is not None
        assert " start " in process.stdout.readline()
        process.kill()
    assert state(box, "box")["Running"] is True
    assert box("inspect", "-f", "{{.RestartCount}}", "box").stdout == "1\n"


def test_events_tell_a_life(pybuild: Pybuild) -> None:
    pybuild("run", "--name", "web", "-l", "a=b", "busybox", "true")
    pybuild("start", "-a", "web")
    pybuild("rm", "web")
    now = ("events", "--since", "1h", "--until", "0s")
    shown = pybuild(*now, "-f", "type=container", "--format", "{{.Action}}").stdout.split()
    assert shown == ["create", "start", "die", "start", "die", "destroy"]
    line = pybuild(
        "events", "--since", "1h", "--until", "0s", "-f", "event=destroy", "--format", "json"
    ).stdout
    event = json.loads(line)
    assert event["Actor"]["Attributes"]["name"] == "web"
    assert event["Actor"]["Attributes"]["a"] == "b"
    assert event["from"] == "busybox"
    assert pybuild(*now, "-f", "container=other").stdout == ""


def test_events_of_what_is_done_to_a_container(box: Pybuild) -> None:
    box("kill", "-s", "WINCH", "box")
    box("exec", "box", "true")
    box("restart", "-t", "0", "box")
    box("stop", "-s", "KILL", "box")
    now = ("events", "--since", "1h", "--until", "0s", "-f", "container=box", "--format")
    shown = box(*now, "{{.Action}}{{with .Actor.Attributes.signal}} {{.}}{{end}}").stdout.splitlines()
    ended = ["die", "stop"]
    assert shown[2:] == [
        "kill 28",
        *("exec_create: true", "exec_start: true", "exec_die", "kill 15", "kill 9"),
        *(*ended, "start", "restart", "kill 9", *ended),
    ]


def test_events_of_an_image_are_those_of_its_tag(box: Pybuild) -> None:
    now = ("events", "--since", "1h", "--until", "0s", "-f")
    assert "create" in box(*now, "image=busybox").stdout
    assert box(*now, "image=busybox:other").stdout == ""


def test_following_ends_at_the_given_time(box: Pybuild) -> None:
    box("run", "-d", "--name", "said", "busybox", "sh", "-c", "echo ready; sleep 1000")
    ready(box, "said")
    assert "ready" not in box("logs", "-f", "--until", "1h", "said", timeout=60).stdout
    soon = str(time.time() + 1)
    assert box("logs", "-f", "--until", soon, "said", timeout=60).stdout == "ready\n"
    box("rm", "-f", "said")


def test_prune_takes_those_that_ended(box: Pybuild) -> None:
    box("run", "--name", "old", "busybox", "true")
    assert "old" not in box("container", "prune", "-f", "--filter", "until=1h").stdout
    assert box("inspect", "-f", "{{.Name}}", "old").stdout == "/old\n"
    id = box("inspect", "-f", "{{.Id}}", "old").stdout.strip()
    assert id in box("container", "prune", "-f").stdout
    assert box("ps", "-a", "--format", "{{.Names}}").stdout == "box\n"
