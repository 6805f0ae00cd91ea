"""A sandbox's spec as the config.json of an OCI bundle."""

from __future__ import annotations

import json
from typing import Any

import pytest

from buildkit_py.linux import caps, profile
from buildkit_py.sandbox import oci
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec

SPEC = SandboxSpec(
    (), "/upper", "/work", ("sh", "-c", "x"), ("A=b",), cwd="//w/.", hostname="box", network="none"
)


def document(
    spec: SandboxSpec = SPEC, *, mode: str = "ids", files: dict[str, str] | None = None
) -> dict[str, Any]:
    made = oci.document(
        spec,
        mode=mode,
        permitted=caps.ALL & ~caps.SYS_ADMIN,
        files=files or {},
        cgroup="/pybuild/x/runtime" if mode == "root" else "",
    )
    copied: dict[str, Any] = json.loads(json.dumps(made))
    assert copied == made
    return copied


def mount(found: dict[str, Any], target: str) -> dict[str, Any]:
    (one,) = [m for m in found["mounts"] if m["destination"] == target]
    assert isinstance(one, dict)
    return one


def test_the_process() -> None:
    process = document(SPEC._replace(ulimits=(("nofile", 1, -1),), oom_score_adj=5))["process"]
    assert process["args"] == ["sh", "-c", "x"]
    assert process["cwd"] == "/w"
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": (1 << 64) - 1}]
    assert process["oomScoreAdj"] == 5
    sets = process["capabilities"]
    assert (
        sets["bounding"]
        == sets["effective"]
        == sets["permitted"]
        == [f"CAP_{n}" for n in caps.names(caps.DEFAULT)]
    )


def test_another_user_has_no_capabilities() -> None:
    process = document(SPEC._replace(uid=5, gid=6, groups=(7,)))["process"]
    assert process["user"] == {"uid": 5, "gid": 6, "umask": 0o022, "additionalGids": [7]}
    assert process["capabilities"]["effective"] == []
    assert process["capabilities"]["bounding"]


def test_only_what_we_have_ourselves_is_given() -> None:
    sets = document(SPEC._replace(capabilities=caps.ALL))["process"]["capabilities"]
    assert "CAP_SYS_ADMIN" not in sets["bounding"]
    assert "CAP_SYS_TIME" in sets["bounding"]


def test_namespaces() -> None:
    def kinds(*host: str) -> set[str]:
        found = document(SPEC._replace(host=host))
        assert ("hostname" in found) == ("uts" not in host)
        return {namespace["type"] for namespace in found["linux"]["namespaces"]}

    # The network is entered before; with the runtime's own there would be two.
    assert kinds() == {"mount", "pid", "ipc", "uts", "cgroup"}
    assert kinds("pid", "ipc", "uts", "cgroup") == {"mount"}


def test_mounts() -> None:
    mounts = (
        SandboxMount("bind", "/dev/nothing", source="/dev/null", readonly=False),
        SandboxMount("tmpfs", "/t", readonly=False, size=5),
    )
    found = document(SPEC._replace(mounts=mounts, hosts="x"), files={"/etc/hosts": "/b/files/0"})
    assert "nodev" not in mount(found, "/dev/nothing")["options"]
    assert {"size=5", "mode=755", "rw"} <= set(mount(found, "/t")["options"])
    assert mount(found, "/etc/hosts")["source"] == "/b/files/0"
    assert mount(found, "/proc")["type"] == "proc"
    assert "gid=5" in mount(found, "/dev/pts")["options"]
    assert "gid=5" not in mount(document(mode="single"), "/dev/pts")["options"]
    # In a user namespace, the sysfs of the host's network can't be mounted anew.
    shared = document(SPEC._replace(network="host"))
    assert mount(shared, "/sys")["type"] == "bind"
    assert mount(document(SPEC._replace(network="host"), mode="root"), "/sys")["type"] == "sysfs"


def test_devices_are_roots_to_allow() -> None:
    mounts = (SandboxMount("bind", "/dev/nothing", source="/dev/null", readonly=False),)
    rules = document(SPEC._replace(mounts=mounts), mode="root")["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[1] == {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}
    assert "resources" not in document()["linux"]


def test_privileged_hides_nothing() -> None:
    spec = SPEC._replace(privileged=True, seccomp="unconfined", capabilities=caps.ALL)
    linux = document(spec, mode="root")["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert "seccomp" not in linux
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def rules(spec: SandboxSpec) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for rule in oci.seccomp_document(spec)["syscalls"]:
        for name in rule["names"]:
            found.setdefault(name, []).append(rule["action"] + ("?" if "args" in rule else ""))
    return found


def test_the_default_filter() -> None:
    found = rules(SPEC)
    assert found["read"] == ["SCMP_ACT_ALLOW"]
    assert found["mount"] == ["SCMP_ACT_ERRNO"]
    assert found["clone"] == ["SCMP_ACT_ALLOW?"]
    assert "clone3" not in found  # ENOSYS, by default
    assert all(len(set(actions)) == 1 for actions in found.values())
    more = rules(SPEC._replace(capabilities=caps.DEFAULT | caps.SYS_ADMIN))
    assert more["mount"] == more["clone"] == more["clone3"] == ["SCMP_ACT_ALLOW"]


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"])
def test_a_given_filter(action: str) -> None:
    argument = {"index": 1, "value": 5, "valueTwo": 0, "op": "SCMP_CMP_NE"}
    given = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "syscalls": [{"names": ["kill"], "action": action, "args": [argument]}],
    }
    read = profile.parse(given, caps.DEFAULT, "x86_64", "6.1")
    made = oci.seccomp_document(SPEC._replace(seccomp=profile.to_tuples(read)))
    assert (made["defaultAction"], made["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    (rule,) = made["syscalls"]
    assert (rule["names"], rule["action"], rule["args"]) == (["kill"], action, [argument])
