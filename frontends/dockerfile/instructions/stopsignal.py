"""STOPSIGNAL: the signal that asks the container to stop, by name or number."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState

_NAMES = frozenset(
    (
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    )
)  # fmt: skip
"""signal(7), Linux on all architectures that images are made for."""


def apply(state: StageState, instruction: Instruction) -> None:
    text = state.expand(instruction, instruction.args[0])
    if not is_signal(text):
        raise state.fail(
            instruction,
            f"STOPSIGNAL: {text!r} is not a signal",
            hint="give a name such as SIGTERM or a number from 1 to 64",
            word=instruction.args[0],
        )
    state.config["StopSignal"] = text
    state.commit(f"STOPSIGNAL {text}")


def is_signal(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return 1 <= int(text[:4]) <= 64
    name = text.upper().removeprefix("SIG")
    if name in _NAMES:
        return True
    for base, sign in (("RTMIN", "+"), ("RTMAX", "-")):
        head, found, number = name.partition(sign)
        if head == base and found and number.isascii() and number.isdigit():
            return int(number[:4]) <= (15 if base == "RTMIN" else 14)
    return False
