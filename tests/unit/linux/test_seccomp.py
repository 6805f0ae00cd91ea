"""The compiled filter, interpreted: every call of every table gets the answer that the profile names."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from buildkit_py.linux import seccomp
from buildkit_py.linux import syscall_names as tables

ABIS = {
    "x86_64": {"x86_64": tables.X86_64, "i386": tables.I386},
    "aarch64": {"aarch64": tables.AARCH64},
}
CASES = [(machine, abi) for machine, abis in ABIS.items() for abi in abis]


def interpret(code: seccomp.Code, number: int, arch: int, args: tuple[int, ...] = ()) -> tuple[int, int]:
    """(answer, steps) of a classic BPF program over struct seccomp_data."""
    data = struct.pack("=iIQ6Q", number, arch, 0, *(*args, 0, 0, 0, 0, 0, 0)[:6])
    at, accumulator, steps = 0, 0, 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at, steps = at + 1, steps + 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, constant)
        elif operation == 0x15:
            at += if_true if accumulator == constant else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= constant else if_false
        elif operation == 0x25:
            at += if_true if accumulator > constant else if_false
        elif operation == 0x05:
            at += constant
        elif operation == 0x54:
            accumulator &= constant
        elif operation == 0x06:
            return constant, steps
        else:
            raise AssertionError(f"no such operation: {operation:#x}")


def names(machine: str, abi: str) -> Mapping[str, int]:
    return tables.numbers(ABIS[machine][abi])


@pytest.mark.parametrize(("machine", "abi"), CASES)
def test_every_call_gets_its_answer(machine: str, abi: str) -> None:
    code = seccomp.assemble(machine)
    arch = seccomp.AUDIT_ARCH[abi]
    for name, number in names(machine, abi).items():
        answer, steps = interpret(code, number, arch)
        if name == "clone3":
            assert answer == seccomp.ENOSYS
        elif name in ("personality", "clone", "socket") or name in seccomp.ALLOWED:
            assert answer == seccomp.ALLOW, name
        else:
            assert answer == seccomp.EPERM, name
        assert steps <= 24, name


@pytest.mark.parametrize(("machine", "abi"), CASES)
def test_unknown_numbers_do_not_exist(machine: str, abi: str) -> None:
    code = seccomp.assemble(machine)
    known = set(names(machine, abi).values())
    for number in [n for n in range(700) if n not in known] + [0x40000000, 0x40000001, 0x7FFFFFFF, -1]:
        assert interpret(code, number, seccomp.AUDIT_ARCH[abi])[0] == seccomp.ENOSYS, number


def test_another_architecture_has_no_calls() -> None:
    code = seccomp.assemble("x86_64")
    assert interpret(code, 0, seccomp.AUDIT_ARCH["aarch64"])[0] == seccomp.ENOSYS


@pytest.mark.parametrize(("machine", "abi"), CASES)
@pytest.mark.parametrize(
    ("name", "argument", "answer"),
    [
        ("clone", 17, seccomp.ALLOW),
        ("clone", 0x10000000, seccomp.EPERM),
        ("clone", 0x20000 | 17, seccomp.EPERM),
        ("socket", 2, seccomp.ALLOW),
        ("socket", 40, seccomp.EPERM),
        ("personality", 0, seccomp.ALLOW),
        ("personality", 8, seccomp.ALLOW),
        ("personality", 0x20000, seccomp.ALLOW),
        ("personality", 0x20008, seccomp.ALLOW),
        ("personality", 0xFFFFFFFF, seccomp.ALLOW),
        ("personality", 0x40000, seccomp.EPERM),
    ],
)
def test_arguments_that_decide(machine: str, abi: str, name: str, argument: int, answer: int) -> None:
    code = seccomp.assemble(machine)
    number = names(machine, abi)[name]
    assert interpret(code, number, seccomp.AUDIT_ARCH[abi], (argument,))[0] == answer


@pytest.mark.parametrize(("machine", "abi"), CASES)
@pytest.mark.parametrize("confine", [True, False])
def test_emulation_notifies_and_pretends(machine: str, abi: str, confine: bool) -> None:
    code = seccomp.assemble(machine, emulate=True, confine=confine)
    arch = seccomp.AUDIT_ARCH[abi]
    table = names(machine, abi)
    for name in seccomp.OWNER_CALLS & set(table):
        assert interpret(code, table[name], arch)[0] == seccomp.NOTIFY, name
    for name in seccomp.EMULATED_IDS & set(table):
        assert interpret(code, table[name], arch)[0] == seccomp.PRETEND, name
    for name, argument in seccomp.DEVICE_CALLS.items():
        for mode, answer in (
            (0o020666, seccomp.NOTIFY),
            (0o060600, seccomp.NOTIFY),
            (0o010644, seccomp.ALLOW),
        ):
            if name in table:
                args = (*(0,) * argument, mode)
                assert interpret(code, table[name], arch, args)[0] == answer, (name, oct(mode))
    assert interpret(code, table["mount"], arch)[0] == (seccomp.EPERM if confine else seccomp.ALLOW)
    assert interpret(code, 999, arch)[0] == (seccomp.ENOSYS if confine else seccomp.ALLOW)


def test_program_is_packed_and_short() -> None:
    program = seccomp.program(machine="x86_64")
    assert len(program) % 8 == 0
    # BPF_MAXINSNS
    assert len(program) // 8 < 4096


def test_what_the_profile_allows_exists_somewhere() -> None:
    known = set().union(*(tables.numbers(text) for abis in ABIS.values() for text in abis.values()))
    assert known >= seccomp.ALLOWED - {"recv", "send"}


def test_tables_agree_from_424_on() -> None:
    tails = [
        {name: n for name, n in tables.numbers(text).items() if n >= 424}
        for text in (tables.X86_64, tables.AARCH64, tables.I386)
    ]
    assert tails[0] == tails[1] == tails[2]
