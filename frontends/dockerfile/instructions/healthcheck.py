"""HEALTHCHECK: how to ask a container whether it is well."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile import goduration
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.gotext import quoted_list, rune
from buildkit_py.frontends.dockerfile.stage import StageState, flag
from buildkit_py.typed import Any

_DURATIONS = (
    ("interval", "Interval"),
    ("timeout", "Timeout"),
    ("start-period", "StartPeriod"),
    ("start-interval", "StartInterval"),
)


def apply(state: StageState, instruction: Instruction) -> None:
    kind = instruction.args[0].upper() if instruction.args else ""
    rest = list(instruction.args[1:])
    if kind == "NONE":
        health: dict[str, Any] = {"Test": ["NONE"]}
    elif kind == "CMD" and rest:
        health = {"Test": ["CMD", *rest] if instruction.json else ["CMD-SHELL", rest[0]]}
    else:
        raise state.fail(instruction, "HEALTHCHECK needs NONE, or CMD and a command")
    times = {field: _duration(state, instruction, name) for name, field in _DURATIONS}
    retries = _retries(state, instruction)
    health.update((field, value) for field, value in times.items() if value)
    if retries:
        health["Retries"] = retries
    state.config["Healthcheck"] = health
    shown = " ".join(f'"{goduration.text_of(value)}"' for value in times.values())
    state.commit(f"HEALTHCHECK &{{{quoted_list(health['Test'])} {shown} {rune(retries)}}}")


def _duration(state: StageState, instruction: Instruction, name: str) -> int:
    text = flag(instruction, name)
    if not text:
        return 0
    try:
        value = goduration.parse(text)
    except ValueError as error:
        raise state.fail(instruction, f"HEALTHCHECK --{name}: {error}", word=f"--{name}") from None
    if value < 0:
        raise state.fail(
            instruction, f"HEALTHCHECK --{name}: the duration {text} is negative", word=f"--{name}"
        )
    if 0 < value < 1_000_000:
        raise state.fail(
            instruction, f"HEALTHCHECK --{name}: the duration {text} is shorter than 1ms", word=f"--{name}"
        )
    return value


def _retries(state: StageState, instruction: Instruction) -> int:
    text = flag(instruction, "retries")
    if not text:
        return 0
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise state.fail(
            instruction, f"HEALTHCHECK --retries: {text!r} is not a number of at least 0", word="--retries"
        )
    return int(digits)
