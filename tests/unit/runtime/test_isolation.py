"""From isolation options to the sandbox's spec: Docker's rules for capabilities, and what is refused."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.linux import caps
from buildkit_py.linux.identity import Identity, IdRange
from buildkit_py.request import Isolation
from buildkit_py.runtime.isolation import capabilities, check_sysctls, device_mounts, find_runtime, isolated
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.snapshot.dirtree import DirTree

EMPTY = DirTree("/nowhere")
SPEC = SandboxSpec((), "", "", ("true",), ())
ROOT = Identity("root")
IDS = Identity("ids", (IdRange(0, 1000, 1), IdRange(1, 100000, 65536)), (IdRange(0, 1001, 1),))
SINGLE = Identity("single", (IdRange(0, 1000, 1),), (IdRange(0, 1001, 1),))


@pytest.mark.parametrize(
    ("asked", "want"),
    [
        ({}, caps.DEFAULT),
        ({"cap_add": ("SYS_ADMIN",)}, caps.DEFAULT | caps.SYS_ADMIN),
        ({"cap_drop": ("CHOWN",)}, caps.DEFAULT & ~1),
        ({"cap_drop": ("ALL",)}, 0),
        ({"cap_drop": ("ALL",), "cap_add": ("CHOWN",)}, 1),
        ({"cap_add": ("ALL",), "cap_drop": ("CHOWN",)}, caps.ALL & ~1),
        ({"cap_add": ("ALL",), "cap_drop": ("ALL",)}, caps.ALL),
        ({"privileged": True}, caps.ALL),
        ({"privileged": True, "cap_drop": ("CHOWN",)}, caps.ALL & ~1),
    ],
)
def test_capabilities(asked: dict[str, Any], want: int) -> None:
    assert capabilities(Isolation(**asked)) == want


def test_nothing_asked_changes_nothing() -> None:
    assert isolated(SPEC, Isolation(readonly=True), EMPTY, ROOT, "") is SPEC


def test_privileged_opens_everything_but_the_namespaces() -> None:
    spec = isolated(SPEC, Isolation(privileged=True), EMPTY, ROOT, "")
    assert (spec.privileged, spec.host_devices, spec.seccomp) == (True, True, "unconfined")
    assert spec.host == ()


@pytest.mark.parametrize(
    ("identity", "user", "want"),
    [
        (ROOT, "", (0, 0, None)),
        (IDS, "", (1000, 1001, (1000, 1001))),
        (IDS, "5:6", (5, 6, (1000, 1001))),
        (SINGLE, "", (1000, 1001, None)),
    ],
)
def test_keep_id(identity: Identity, user: str, want: tuple[int, int, tuple[int, int] | None]) -> None:
    spec = SPEC._replace(uid=5, gid=6) if user else SPEC
    done = isolated(spec, Isolation(userns="keep-id"), EMPTY, identity, user)
    assert (done.uid, done.gid, done.keep_id) == want


@pytest.mark.parametrize(
    ("name", "network", "ipc", "message"),
    [
        ("kernel.shmmax", "host", "", ""),
        ("fs.mqueue.msg_max", "host", "", ""),
        ("net.core.somaxconn", "none", "", ""),
        ("net.core.somaxconn", "host", "", "with the host's network"),
        ("kernel.shmmax", "none", "host", "with --ipc=host"),
        ("vm.swappiness", "none", "", "the whole machine's"),
        ("kernel.core_pattern", "none", "", "the whole machine's"),
    ],
)
def test_sysctls(name: str, network: Literal["host", "none"], ipc: str, message: str) -> None:
    asked = Isolation(sysctls=((name, "1"),), ipc=ipc)
    if not message:
        check_sysctls(asked, network)
        return
    with pytest.raises(PybuildError, match=message):
        check_sysctls(asked, network)


def test_devices(tmp_path: Any) -> None:
    (mount,) = device_mounts("/dev/null", "/dev/nothing", "rwm")
    assert (mount.source, mount.target, mount.readonly) == ("/dev/null", "/dev/nothing", False)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(PybuildError, match="--device"):
            device_mounts(str(path), "/dev/x", "rwm")
    with pytest.raises(PybuildError, match="read and written"):
        device_mounts("/dev/null", "/dev/x", "r")
    (tmp_path / "plain").write_text("")
    with pytest.raises(PybuildError, match="is not a device"):
        device_mounts(str(tmp_path / "plain"), "/dev/x", "rwm")


def test_what_an_oci_runtime_is_not_asked_for() -> None:
    asked = Isolation(runtime="crun", ipc="container:other")
    with pytest.raises(PybuildError, match="--ipc=container:other is not done with --runtime"):
        find_runtime(asked)
