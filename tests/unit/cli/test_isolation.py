"""The options that keep a container apart: their forms, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.cli import fast, isolation, table
from buildkit_py.cli.command import Args
from buildkit_py.errors import UsageError
from buildkit_py.request import Isolation


def args(*words: str) -> Args:
    parsed = fast.parse(table.load("run"), [*words, "image"])
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ((), {}),
        (
            ("--cap-add", "net_admin,CAP_SYS_TIME", "--cap-add", "all"),
            {"cap_add": ("NET_ADMIN", "SYS_TIME", "ALL")},
        ),
        (("--cap-drop", "ALL"), {"cap_drop": ("ALL",)}),
        (("--security-opt", "no-new-privileges"), {"no_new_privileges": True}),
        (("--security-opt", "no-new-privileges:true"), {"no_new_privileges": True}),
        (("--security-opt", "no-new-privileges=false"), {}),
        (("--security-opt", "seccomp=unconfined"), {"seccomp": "unconfined"}),
        (("--security-opt", "seccomp=p.json"), {"seccomp": "p.json"}),
        (("--security-opt", "seccomp=builtin"), {}),
        (("--security-opt", "systempaths=unconfined"), {"unmask": ("ALL",)}),
        (("--security-opt", "mask=/a:/b/"), {"mask": ("/a", "/b")}),
        (("--security-opt", "unmask=all"), {"unmask": ("ALL",)}),
        (("--security-opt", "apparmor=unconfined", "--security-opt", "label=disable"), {}),
        (("--device", "/dev/fuse"), {"devices": (("/dev/fuse", "/dev/fuse", "rwm"),)}),
        (("--device", "/dev/a:/dev/b:rw"), {"devices": (("/dev/a", "/dev/b", "rw"),)}),
        (("--device", "/dev/a:r"), {"devices": (("/dev/a", "/dev/a", "r"),)}),
        (("--sysctl", "net.ipv4.ip_forward=1"), {"sysctls": (("net.ipv4.ip_forward", "1"),)}),
        (
            ("--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host"),
            {"pid": "host", "ipc": "host", "uts": "host", "cgroupns": "host"},
        ),
        (("--pid=private", "--ipc=shareable"), {}),
        (("--userns=keep-id",), {"userns": "keep-id"}),
        (("--pid=container:a", "--ipc=container:b"), {"pid": "container:a", "ipc": "container:b"}),
        (
            ("--oom-score-adj=-5", "--init", "--privileged"),
            {"oom_score_adj": -5, "init": True, "privileged": True},
        ),
        (("--group-add", "audio", "--group-add=5"), {"groups": ("audio", "5")}),
    ],
)
def test_forms(words: tuple[str, ...], fields: dict[str, Any]) -> None:
    assert isolation.translate(args(*words)) == Isolation(**fields)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cap-add", "NET_ADMN"), "no capability 'NET_ADMN'"),
        (("--security-opt", "apparmor=mine"), "'apparmor=mine' is not done"),
        (("--security-opt", "label=type:x"), "'label=type:x' is not done"),
        (("--security-opt", "proc-opts=x"), "is not known"),
        (("--security-opt", "mask=proc"), "not absolute"),
        (("--device", "fuse"), "not of the form"),
        (("--device", "/dev/a:/dev/b:x"), "of r, w and m"),
        (("--device", "/a:/b:/c:/d"), "not of the form"),
        (("--sysctl", "net.x"), "NAME=VALUE"),
        (("--oom-score-adj", "1001"), "-1000 to 1000"),
        (("--pid", "own"), "'own' is not known"),
        (("--userns", "nomap"), "'nomap' is not known"),
        (("--pid", "container:"), "names no container"),
        (("--cgroupns", "container:a"), "'container:a' is not known"),
        (("--group-add", "keep-groups"), "keep-groups is not done"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        isolation.translate(args(*words))
