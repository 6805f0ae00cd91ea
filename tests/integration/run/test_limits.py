"""What a container and a step may use of the machine: kept where it can be, told where it can't."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.linux import cgroups
from tests.support.people import person
from tests.support.program import program
from tests.support.runner import Pybuild, Result

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp")

CONTROLLERS = cgroups.hierarchies()
FORK = "sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done'"
EAT = "x=$(head -c 80000000 /dev/zero | tr '\\0' x); echo survived"


PARENT = f"pybuild-test-{os.getpid()}"
"""Where the groups of these tests stand, apart from those of others."""


@pytest.fixture(autouse=True)
def _no_group_is_left() -> Iterator[None]:
    yield
    folders = [Path(mount, PARENT) for mount in {CONTROLLERS.unified, *CONTROLLERS.single.values()} if mount]
    left = [str(path) for folder in folders for path in folder.glob("*/")]
    for folder in folders:
        if folder.is_dir() and not left:
            folder.rmdir()
    assert left == []


def run(pybuild: Pybuild, *words: str, script: str, status: int | None = 0) -> Result:
    options = ("--rm", "-q", f"--cgroup-parent=/{PARENT}", *words)
    return pybuild("run", *options, "busybox", "sh", "-c", script, status=status)


def test_processes(pybuild: Pybuild) -> None:
    """As root by a control group, as others by a control group or the kernel's count a namespace."""
    assert run(pybuild, "--pids-limit=20", script=FORK).text == ""
    # A shell that can't fork gives up.
    assert "can't fork" in run(pybuild, "--pids-limit=6", script=FORK, status=None).stderr
    # Another user of the container takes from the same.
    switch = (
        "for u in 1 2 3; do setpriv --reuid=$u sh -c 'sleep 1 & sleep 1 &' || chroot / true; done; " + FORK
    )
    assert "can't fork" in run(pybuild, "--pids-limit=6", script=switch, status=None).stderr


def test_processes_of_two_containers_are_counted_apart(pybuild: Pybuild) -> None:
    parent = f"--cgroup-parent=/{PARENT}"
    words = ("run", "--rm", "-q", parent, "--pids-limit=12", "busybox", "sh", "-c", f"{FORK}; echo done")
    run(pybuild, script="true")
    with pybuild.start(*words) as one, pybuild.start(*words) as other:
        assert [p.communicate(timeout=60) for p in (one, other)] == [("done\n", "")] * 2


def test_memory(pybuild: Pybuild) -> None:
    limited = pybuild.person.kind == "root"
    done = run(pybuild, "--memory=32m", script=EAT, status=None)
    if limited:
        assert done.status == 137
        assert "killed for lack of memory: its limit is 32 MiB" in done.stderr
        assert done.stderr.count("WARNING") == 1
        assert run(pybuild, "--memory=400m", script=EAT).text == "survived\n"
    else:
        assert done.stdout == "survived\n"
        assert (
            "WARNING: this machine doesn't let us set --memory: the control groups are root's" in done.stderr
        )
        assert done.stderr.count("WARNING") == 1
    strict = run(pybuild, "--memory=400m", "--strict", script="true", status=None)
    assert strict.status == (0 if limited else 125)
    assert limited or "Delegate=yes" in strict.stderr


def test_processors(root: Pybuild) -> None:
    done = run(root, "--cpuset-cpus=0", "--cpus=0.5", "--cpu-shares=512", "--strict", script="nproc")
    assert done.text == "1\n"
    busy = "cat /proc/uptime; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; cat /proc/uptime; times"
    start, _, end, _, user, *_ = run(root, "--cpus=0.2", script=busy).stdout.split()
    assert float(end) - float(start) > 3 * float(user.partition("m")[2].rstrip("s"))


def test_a_value_that_makes_no_sense_here(root: Pybuild) -> None:
    done = run(root, "--cpuset-cpus=4000", script="true", status=125)
    assert "--cpuset-cpus: the kernel refuses 4000" in done.stderr


def test_a_parent(root: Pybuild) -> None:
    with root.start(
        *("run", "--rm", "-q", "--pids-limit=50", f"--cgroup-parent=/{PARENT}", "busybox"),
        *("sh", "-c", "echo ready; read line"),
        stdin=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        (group,) = Path(CONTROLLERS.single["pids"], PARENT).glob("*/")
        assert (group / "pids.max").read_text() == "50\n"
        process.communicate("")


def test_steps_of_a_build(pybuild: Pybuild) -> None:
    parent = (f"--cgroup-parent=/{PARENT}",)
    context = pybuild.context({"Dockerfile": f"FROM busybox\nRUN {FORK}\n"})
    done = pybuild("build", *parent, "--pids-limit=6", context, status=1)
    assert "can't fork" in done.stderr
    pybuild("build", *parent, "--pids-limit=30", context)
    # Limits take no part in the keys.
    assert "CACHED" in pybuild("build", *parent, "--pids-limit=6", context).stderr
    context = pybuild.context({"Dockerfile": f"FROM busybox\nRUN {EAT}\n"})
    if pybuild.person.kind == "root":
        assert (
            "killed for lack of memory" in pybuild("build", *parent, "--memory=32m", context, status=1).stderr
        )
    else:
        done = pybuild("build", *parent, "--memory=32m", context)
        assert done.stderr.count("this machine doesn't let us set --memory") == 1
        pybuild("build", "--memory=32m", "--strict", "--no-cache", context, status=1)


DRIVER = """
import json, os, subprocess, sys
from buildkit_py.linux import cgroups
from buildkit_py.request import Limits
os.write(1, b"ready\\n")
sys.stdin.readline()
group, missing = cgroups.create("test", Limits(), needed=("hugetlb", "freezer"))
procs = group.unified + "/cgroup.procs"
child = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: cgroups._write(procs, "0"))
frozen = group.freeze(True)
events = open(group.unified + "/cgroup.events").read()
group.freeze(False)
child.kill()
child.wait()
controllers = open(group.unified + "/cgroup.controllers").read().split()
own = open("/proc/self/cgroup").read().splitlines()[-1]
group.remove()
print(json.dumps([group.unified, missing, frozen, controllers, own, os.path.exists(group.unified)]))
"""


@pytest.mark.needs("root")
@pytest.mark.parametrize("kind", ["root", "ids", "single"])
def test_a_delegated_part_of_the_unified_hierarchy(kind: str) -> None:
    """The kernel's own: the group that we are in is divided, we ourselves going into a part of it."""
    import json

    if "hugetlb" not in Path(f"{CONTROLLERS.unified}/cgroup.controllers").read_text().split():
        pytest.fail("the unified hierarchy has no controller to try this with")
    someone = person(kind)
    top = Path(f"{CONTROLLERS.unified}/pybuild-test-{os.getpid()}")
    scope = top / "scope"
    scope.mkdir(parents=True)
    control = Path(CONTROLLERS.unified) / "cgroup.subtree_control"
    before = control.read_text().split()
    control.write_text("+hugetlb")
    (top / "cgroup.subtree_control").write_text("+hugetlb")
    for path in (scope, scope / "cgroup.procs", scope / "cgroup.subtree_control"):
        os.chown(path, someone.uid, someone.gid)
    found = program(someone)
    interpreter = found.argv[0] if len(found.argv) > 1 else sys.executable
    process = subprocess.Popen(
        [interpreter, "-c", DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", **found.environment},
        **someone.popen(),
    )
    try:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == "ready\n"
        (scope / "cgroup.procs").write_text(str(process.pid))
        out, _ = process.communicate("\n", timeout=60)
    finally:
        process.kill()
        process.wait()
        for folder in sorted(top.glob("**/"), key=lambda path: -len(str(path))):
            folder.rmdir()
        for folder in sorted(Path(CONTROLLERS.unified).glob("pybuild/**/"), key=lambda path: -len(str(path))):
            folder.rmdir()
        if "hugetlb" not in before:
            # Some OCI runtimes refuse to work beside a version 2 that has controllers.
            control.write_text("-hugetlb")
    place, missing, frozen, controllers, own, there = json.loads(out)
    assert missing == {}
    assert frozen is True
    assert controllers == ["hugetlb"]
    assert not there
    if kind == "root":
        assert place == f"{CONTROLLERS.unified}/pybuild/test"
    else:
        assert place == f"{scope}/pybuild/test"
        assert own == f"0::/{top.name}/scope/pybuild-self"
