"""Control groups: what is written for which limit, and whose groups are divided, on trees of plain files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.errors import SandboxError
from buildkit_py.linux import cgroups
from buildkit_py.linux.cgroups import Group, Hierarchies, settings
from buildkit_py.request import Limits

MEBI = 1 << 20


def written(limits: dict[str, Any], version: int) -> dict[str, str]:
    return {s.file: s.value for s in settings(Limits(**limits), version)}


@pytest.mark.parametrize(
    ("limits", "two", "one"),
    [
        ({}, {}, {}),
        ({"memory": MEBI}, {"memory.max": "1048576", "memory.swap.max": "1048576"},
         {"memory.limit_in_bytes": "1048576", "memory.memsw.limit_in_bytes": "2097152"}),
        ({"memory": MEBI, "memory_swap": MEBI}, {"memory.max": "1048576", "memory.swap.max": "0"},
         {"memory.limit_in_bytes": "1048576", "memory.memsw.limit_in_bytes": "1048576"}),
        ({"memory": MEBI, "memory_swap": -1}, {"memory.max": "1048576", "memory.swap.max": "max"},
         {"memory.limit_in_bytes": "1048576", "memory.memsw.limit_in_bytes": "-1"}),
        ({"memory_reservation": 5}, {"memory.low": "5"}, {"memory.soft_limit_in_bytes": "5"}),
        ({"cpus": 1.5}, {"cpu.max": "150000 100000"},
         {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"}),
        ({"cpu_shares": 1024}, {"cpu.weight": "39"}, {"cpu.shares": "1024"}),
        ({"cpuset_cpus": "0-1", "cpuset_mems": "0"}, *[{"cpuset.cpus": "0-1", "cpuset.mems": "0"}] * 2),
        ({"pids": 7}, *[{"pids.max": "7"}] * 2),
        ({"pids": -1}, {}, {}),
        ({"blkio_weight": 1000}, {"io.weight": "default 10000"}, {"blkio.weight": "1000"}),
    ],
)  # fmt: skip
def test_what_is_written(limits: dict[str, Any], two: dict[str, str], one: dict[str, str]) -> None:
    assert written(limits, 2) == two
    assert written(limits, 1) == one


CONTROLLERS = "cpu memory pids"
FILES = {"memory": ("memory.max", "memory.swap.max"), "pids": ("pids.max",), "cpu": ("cpu.max",)}


class Unified:
    """A tree like the kernel's, of which a new directory's files are made by hand."""

    def __init__(self, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount = mount
        self.group(mount, CONTROLLERS)
        plain = os.mkdir

        def mkdir(path: str, mode: int = 0o777) -> None:
            plain(path, mode)
            above = Path(path).parent
            self.fill(Path(path), (above / "cgroup.subtree_control").read_text().replace("+", ""))

        monkeypatch.setattr(os, "mkdir", mkdir)

    def group(self, path: Path, controllers: str) -> Path:
        path.mkdir(exist_ok=True)
        self.fill(path, controllers)
        return path

    def fill(self, path: Path, controllers: str) -> None:
        (path / "cgroup.controllers").write_text(controllers)
        for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.freeze"):
            (path / name).write_text("")
        for controller, files in FILES.items():
            if controller in controllers:
                for file in files:
                    (path / file).write_text("")


@pytest.fixture
def unified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unified:
    return Unified(tmp_path / "cgroup", monkeypatch)


def hierarchies(unified: Unified, own: str) -> Hierarchies:
    return Hierarchies(str(unified.mount), own, {})


def test_a_group_below_the_highest_that_is_ours(unified: Unified) -> None:
    """The files keep the last word written, so one controller is asked for at a time."""
    own = unified.group(unified.mount / "session", CONTROLLERS)
    group, missing = cgroups.create("x", Limits(memory=MEBI), found=hierarchies(unified, f"/{own.name}"))
    assert missing == {}
    made = unified.mount / "pybuild" / "x"
    assert group == Group(str(made))
    assert (unified.mount / "cgroup.subtree_control").read_text() == "+memory"
    assert (made / "memory.max").read_text() == str(MEBI)
    assert (made / "memory.swap.max").read_text() == str(MEBI)


def test_a_scope_of_ours_is_the_place(unified: Unified) -> None:
    """Not the manager's group above it, though that is the user's as well."""
    scope = unified.group(unified.mount / "pybuild-7.scope", CONTROLLERS)
    inside = unified.group(scope / "pybuild-self", "")
    found = hierarchies(unified, f"/{scope.name}/{inside.name}")
    assert cgroups.divisible(found) == str(scope)
    group, missing = cgroups.create("x", Limits(memory=MEBI), found=found)
    assert (group.unified, missing) == (str(scope / "pybuild" / "x"), {})


def test_processes_make_room_before_there_are_groups(unified: Unified) -> None:
    """The kernel doesn't refuse it for cpu alone, but makes the group a threaded one."""
    own = unified.group(unified.mount / "pybuild-7.scope", CONTROLLERS)
    (own / "cgroup.type").write_text("domain")
    (own / "cgroup.procs").write_text("41\n42\n")
    cgroups.create("x", Limits(cpus=1), found=hierarchies(unified, f"/{own.name}"))
    assert (own / "pybuild-self" / "cgroup.procs").read_text() == "42"
    # The root has no type, and may have both.
    (unified.mount / "cgroup.procs").write_text("41\n")
    cgroups.create("x", Limits(cpus=1), found=hierarchies(unified, "/"))
    assert not (unified.mount / "pybuild-self").exists()


def test_what_the_group_that_is_ours_lacks(unified: Unified) -> None:
    (unified.mount / "cgroup.controllers").write_text("cpu memory pids cpuset")
    scope = unified.group(unified.mount / "pybuild-7.scope", CONTROLLERS)
    found = hierarchies(unified, f"/{scope.name}")
    assert not cgroups.lacking(found, Limits(cpuset_cpus="0"))
    _, missing = cgroups.create("x", Limits(cpuset_cpus="0"), found=found)
    assert missing == {"--cpuset-cpus": "the control group that is ours lacks the controller"}


def test_whether_a_group_of_ours_is_lacking(unified: Unified) -> None:
    own = unified.group(unified.mount / "session", CONTROLLERS)
    (own / "cgroup.procs").unlink()
    found = hierarchies(unified, f"/{own.name}")
    assert cgroups.lacking(found, Limits(memory=MEBI))
    assert not cgroups.lacking(found, Limits(blkio_weight=100)), "nobody has such groups"
    assert not cgroups.lacking(found, Limits())
    assert not cgroups.lacking(Hierarchies("", "/", {}), Limits(memory=MEBI))


def test_a_limit_that_comes_later_gets_its_controller(unified: Unified) -> None:
    group, _ = cgroups.create("x", Limits(memory=MEBI), found=hierarchies(unified, "/"))
    made = Path(group.unified)
    assert not (made / "pids.max").exists()
    # No kernel makes the group's files here.
    assert cgroups.update(group, Limits(pids=3)) == {
        "--pids-limit": "the container has no control group for it"
    }
    # A plain file keeps the tail of what stood there.
    assert (unified.mount / "cgroup.subtree_control").read_text().startswith("+pids")


def test_a_parent_of_ones_own(unified: Unified) -> None:
    limits = Limits(pids=5, cgroup_parent="/a/b")
    group, _ = cgroups.create("x", limits, found=hierarchies(unified, "/"))
    assert group.unified == str(unified.mount / "a" / "b" / "x")
    assert (Path(group.unified) / "pids.max").read_text() == "5"


def test_what_can_not_be_limited_is_told(unified: Unified) -> None:
    group, missing = cgroups.create("x", Limits(cpuset_cpus="0", pids=3), found=hierarchies(unified, "/"))
    assert missing == {"--cpuset-cpus": "this machine has no such control groups"}
    assert (Path(group.unified) / "pids.max").read_text() == "3"
    nothing, missing = cgroups.create("x", Limits(memory=MEBI, pids=3), found=Hierarchies("", "/", {}))
    assert nothing == Group()
    assert set(missing) == {"--memory", "--pids-limit"}


def test_version_one(tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    found = Hierarchies("", "/", {"pids": str(tmp_path / "pids")})
    group, missing = cgroups.create("x", Limits(pids=3), found=found)
    # The kernel makes the file; here nobody does.
    assert missing == {"--pids-limit": "this kernel has no pids.max"}
    assert group.single == (str(tmp_path / "pids/pybuild/x"),)
    group.remove()
    assert not os.path.exists(group.single[0])


def test_a_value_that_the_kernel_refuses(unified: Unified, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, text: str) -> None:
        if path.endswith("pids.max"):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(cgroups, "_write", refuse)
    (unified.mount / "cgroup.subtree_control").write_text(CONTROLLERS)
    with pytest.raises(SandboxError, match="--pids-limit: the kernel refuses 3"):
        cgroups.create("x", Limits(pids=3), found=hierarchies(unified, "/"))


def test_where_they_are_mounted(tmp_path: Path) -> None:
    info = tmp_path / "mountinfo"
    info.write_text(
        "30 23 0:26 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw\n"
        "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:6 - cgroup cgroup rw,cpu,cpuacct\n"
        "32 23 0:28 / /sys/fs/cgroup/systemd rw shared:7 - cgroup cgroup rw,xattr,name=systemd\n"
        "33 23 0:29 / /proc rw - proc proc rw\n"
    )
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/user\n0::/user.slice\n")
    found = cgroups.hierarchies(str(info), str(own))
    assert (found.unified, found.own) == ("/sys/fs/cgroup/unified", "/user.slice")
    assert found.single["cpuacct"] == found.single["cpu"] == "/sys/fs/cgroup/cpu,cpuacct"


def test_kills_for_lack_of_memory_are_counted(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert Group(str(tmp_path)).oom_kills() == 2
    (tmp_path / "memory.events").unlink()
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert Group("", (str(tmp_path),)).oom_kills() == 1
    assert Group().oom_kills() == 0


def test_what_dead_builds_left_is_swept(tmp_path: Path) -> None:
    dead = 1 << 22
    names = {
        f"build-{os.getpid()}-1": True,
        f"build-{dead}-7": False,
        f"trial-{dead}": False,
        "ab" * 32: True,
    }
    for name in names:
        (tmp_path / name).mkdir()
    cgroups.sweep(Group(str(tmp_path / f"build-{os.getpid()}-1")))
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_mount_point_that_looks_like_two_lines(tmp_path: Path) -> None:
    """Whoever may mount something, by fusermount say, chooses its name."""
    false = "/home/me/\u2028x"
    lines = f"25 30 0:23 / {false} rw - fuse me rw\n26 30 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    (tmp_path / "mountinfo").write_text(lines)
    (tmp_path / "cgroup").write_text("0::/a\n")
    found = cgroups.hierarchies(str(tmp_path / "mountinfo"), str(tmp_path / "cgroup"))
    assert found == Hierarchies("/sys/fs/cgroup", "/a", {})
