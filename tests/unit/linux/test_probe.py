from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit_py.linux import caps, cgroups, hints, probe


@pytest.mark.parametrize(
    ("release", "ok"),
    [
        ("6.1.0-13-amd64", True),
        ("5.12.0", True),
        ("5.4.0-150-generic", False),
        ("6.18", True),
        ("4.19.rc1", False),
    ],
)
def test_kernel(release: str, ok: bool) -> None:
    assert probe.kernel(release).ok is ok


MOUNTS = [("/", "ext4"), ("/home", "nfs4"), ("/home/me", "xfs"), ("/tmp", "tmpfs"), ("/o", "overlay")]


@pytest.mark.parametrize(
    ("root", "ok"),
    [
        ("/var/lib/x", True),
        ("/home/you/.local", False),
        ("/home/me/.local/share/pybuild", True),
        ("/homework", True),
        ("/o/x", False),
    ],
)
def test_store(root: str, ok: bool) -> None:
    found = probe.store_finding(root, MOUNTS)
    assert found.ok is ok
    assert bool(found.mend) is not ok


def test_a_mount_on_top_counts() -> None:
    assert not probe.store_finding("/a", [("/", "ext4"), ("/a", "xfs"), ("/a", "fuse.sshfs")]).ok


def test_seccomp() -> None:
    assert probe.seccomp_finding("kill_process errno user_notif allow", "single").ok
    old = probe.seccomp_finding("kill_process errno allow", "single")
    assert not old.ok
    assert old.required
    assert not probe.seccomp_finding("kill errno allow", "ids").required
    assert probe.seccomp_finding("", "ids").required


def test_root_needs_no_subordinate_ids() -> None:
    assert probe.subordinate_findings(0, 0) == []


def test_a_user_without_ids_is_told_the_command() -> None:
    found = probe.subordinate_findings(4000000000, 4000000000)[0]
    assert not found.ok
    assert not found.required
    assert found.mend.startswith("sudo usermod --add-subuids")


def make_v2(folder: Path, group: str, *, writable: bool) -> tuple[str, str]:
    place = folder / "cgroup" / group.strip("/")
    place.mkdir(parents=True)
    (folder / "cgroup" / "cgroup.controllers").write_text("cpu memory pids\n")
    (place / "cgroup.controllers").write_text("memory pids\n")
    if writable:
        for name in ("cgroup.procs", "cgroup.subtree_control"):
            (place / name).write_text("")
    (folder / "membership").write_text(f"0::{group}\n")
    return str(folder / "cgroup"), str(folder / "membership")


def test_cgroups_v2(tmp_path: Path) -> None:
    found = cgroups.find(*make_v2(tmp_path, "/user.slice/x", writable=True))
    assert found == cgroups.Cgroups(2, str(tmp_path / "cgroup/user.slice/x"), True, ("memory", "pids"))
    assert probe.cgroup_finding(found).ok


def test_cgroups_v2_not_delegated(tmp_path: Path) -> None:
    found = cgroups.find(*make_v2(tmp_path, "/user.slice/x", writable=False))
    assert not found.delegated
    assert "Delegate=" in probe.cgroup_finding(found).mend


def test_cgroups_v2_by_systemd(tmp_path: Path) -> None:
    found = cgroups.find(*make_v2(tmp_path, "/user.slice/x", writable=False))
    finding = probe.cgroup_finding(found, ("cpu", "memory", "pids"))
    assert finding.ok
    assert finding.detail == "version 2, by this user's systemd: cpu, memory, pids; not cpuset, io"
    assert "Delegate=" in finding.mend
    assert probe.cgroup_finding(found, ("cpu", "cpuset", "io", "memory", "pids")).mend == ""


def test_cgroups_v1(tmp_path: Path) -> None:
    for name in ("memory", "pids"):
        (tmp_path / "cgroup" / name / "g").mkdir(parents=True)
    (tmp_path / "membership").write_text("5:memory:/g\n4:pids:/g\n3:cpu,cpuacct:/\n1:name=systemd:/g\n0::/\n")
    found = cgroups.find(str(tmp_path / "cgroup"), str(tmp_path / "membership"))
    assert found == cgroups.Cgroups(1, str(tmp_path / "cgroup"), True, ("memory", "pids"))


def test_no_cgroups(tmp_path: Path) -> None:
    found = cgroups.find(str(tmp_path / "none"), str(tmp_path / "none"))
    assert found.version == 0
    assert not probe.cgroup_finding(found).ok


def test_probe_leaves_nothing(tmp_path: Path) -> None:
    findings = probe.probe(str(tmp_path / "store"))
    assert os.listdir(tmp_path) == []
    assert {"kernel", "overlay", "seccomp", "cgroups", "store"} <= {f.name for f in findings}


def test_capability_numbers() -> None:
    # What Docker's containers show in /proc/self/status.
    assert caps.DEFAULT == 0xA80425FB
    assert caps.mask(["SYS_ADMIN"]) == caps.SYS_ADMIN
    with pytest.raises(ValueError, match="not in list"):
        caps.mask(["NOPE"])


def test_hints_name_commands() -> None:
    import errno

    assert "sysctl" in hints.hint("unshare", errno.ENOSPC)
    assert hints.hint("unshare", errno.ENOMEM) == ""


def test_mount_points_with_odd_names(tmp_path: Path) -> None:
    line = "36 35 98:0 / {} rw shared:1 - {} source rw\n"
    odd = (("/é", "ext4"), (r"/a\040b\134", "xfs"), ("/a\u2028\x0cb\rc", "fuse"))
    (tmp_path / "mountinfo").write_bytes(
        "".join(line.format(*one) for one in odd).encode() + b"1 2 3:4 / /\xff rw - ext4 x rw\n"
    )
    found = probe._mountinfo(str(tmp_path / "mountinfo"))
    assert found == [("/é", "ext4"), ("/a b\\", "xfs"), ("/a\u2028\x0cb\rc", "fuse"), ("/\udcff", "ext4")]
