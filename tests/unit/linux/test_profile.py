"""Seccomp profiles in Docker's form, compiled and interpreted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.errors import UsageError
from buildkit_py.linux import caps, profile, seccomp
from buildkit_py.linux import syscall_names as tables
from tests.unit.linux.test_seccomp import interpret

ALLOW, KILL = 0x7FFF0000, 0x80000000
NUMBERS = tables.numbers(tables.X86_64)


def answer(document: dict[str, Any], name: str, *args: int, capabilities: int = caps.DEFAULT) -> int:
    read = profile.parse(document, capabilities, "x86_64", "6.1.0-13-amd64")
    again = profile.from_tuples(profile.to_tuples(read))
    assert again == read
    code = seccomp.assemble("x86_64", profile=again)
    return interpret(code, NUMBERS[name], seccomp.AUDIT_ARCH["x86_64"], args)[0]


def one(action: str, **rule: Any) -> dict[str, Any]:
    rules = [{"names": ["kill"], "action": action, **rule}]
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}


def test_actions_and_default() -> None:
    allow = one("SCMP_ACT_ALLOW")
    assert answer(allow, "kill") == ALLOW
    assert answer(allow, "read") == seccomp.EPERM
    assert answer(one("SCMP_ACT_ERRNO", errnoRet=22), "kill") == 0x50000 | 22
    assert answer(one("SCMP_ACT_KILL_PROCESS"), "kill") == KILL
    document = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38}
    assert answer(document, "kill") == seccomp.ENOSYS


BIG = 0x1_0000_0005


@pytest.mark.parametrize(
    ("operation", "value", "second", "yes", "no"),
    [
        ("EQ", BIG, 0, [BIG], [5, BIG + 1, 0x2_0000_0005]),
        ("NE", BIG, 0, [5, BIG + 1, 0x2_0000_0005], [BIG]),
        ("GT", BIG, 0, [BIG + 1, 0x2_0000_0000], [BIG, 5, 0xFFFFFFFF]),
        ("GE", BIG, 0, [BIG, BIG + 1, 0x2_0000_0000], [BIG - 1, 0xFFFFFFFF]),
        ("LT", BIG, 0, [BIG - 1, 0xFFFFFFFF], [BIG, BIG + 1, 0x2_0000_0000]),
        ("LE", BIG, 0, [BIG, BIG - 1, 0xFFFFFFFF], [BIG + 1, 0x2_0000_0000]),
        ("MASKED_EQ", 0xF_0000_000F, BIG, [BIG, BIG + 0x10], [BIG + 1, 5]),
    ],
)
def test_comparisons(operation: str, value: int, second: int, yes: list[int], no: list[int]) -> None:
    condition = {"index": 1, "op": f"SCMP_CMP_{operation}", "value": value, "valueTwo": second}
    document = one("SCMP_ACT_ALLOW", args=[condition])
    assert {answer(document, "kill", 0, number) for number in yes} == {ALLOW}
    assert {answer(document, "kill", 0, number) for number in no} == {seccomp.EPERM}


def test_conditions_hold_together_and_on_one_argument_in_turn() -> None:
    def equal(index: int, value: int) -> dict[str, Any]:
        return {"index": index, "op": "SCMP_CMP_EQ", "value": value}

    both = one("SCMP_ACT_ALLOW", args=[equal(0, 1), equal(1, 2)])
    assert answer(both, "kill", 1, 2) == ALLOW
    assert answer(both, "kill", 1, 3) == answer(both, "kill", 3, 2) == seccomp.EPERM
    either = one("SCMP_ACT_ALLOW", args=[equal(0, 1), equal(0, 2)])
    assert answer(either, "kill", 1) == answer(either, "kill", 2) == ALLOW
    assert answer(either, "kill", 3) == seccomp.EPERM


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        ({"includes": {"caps": ["CAP_KILL"]}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_KILL"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
    ],
)
def test_rules_for_some_containers(rule: dict[str, Any], applies: bool) -> None:
    assert (answer(one("SCMP_ACT_ALLOW", **rule), "kill") == ALLOW) is applies


def test_what_is_recorded_with_one_id_stays_so() -> None:
    read = profile.parse(
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["fchown"], "action": "SCMP_ACT_ERRNO"}]},
        caps.DEFAULT,
        "x86_64",
        "6.1",
    )
    code = seccomp.assemble("x86_64", emulate=True, profile=read)
    arch = seccomp.AUDIT_ARCH["x86_64"]
    assert interpret(code, NUMBERS["chown"], arch)[0] == seccomp.NOTIFY
    assert interpret(code, NUMBERS["fchown"], arch)[0] == seccomp.EPERM


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "can't be read"),
        ("[]", "is no seccomp profile"),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "SCMP_ACT_NOTIFY is not done here"),
        ("{}", "is no seccomp profile"),
        (
            json.dumps(one("SCMP_ACT_ALLOW", args=[{"index": 9, "op": "SCMP_CMP_EQ", "value": 1}])),
            "no index 9",
        ),
        (json.dumps(one("SCMP_ACT_ALLOW", args=[{"index": 0, "op": "X", "value": 1}])), "X is not known"),
    ],
)
def test_what_is_no_profile_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        profile.read(str(path), caps.DEFAULT)


def test_capabilities_open_calls_of_the_default_profile() -> None:
    code = seccomp.assemble("x86_64", capabilities=caps.DEFAULT | caps.mask(["SYS_ADMIN", "SYS_TIME"]))
    for name in ("mount", "unshare", "setns", "clone3", "clock_settime"):
        assert interpret(code, NUMBERS[name], seccomp.AUDIT_ARCH["x86_64"], (0x7E020000,))[0] == ALLOW, name
    for name in ("reboot", "init_module", "kexec_load", "userfaultfd", "keyctl"):
        assert interpret(code, NUMBERS[name], seccomp.AUDIT_ARCH["x86_64"])[0] == seccomp.EPERM, name
