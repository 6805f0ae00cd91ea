"""Seccomp profiles in Docker's JSON form (``--security-opt seccomp=FILE``): read, and answered by name.

The form is Docker's extension of the OCI runtime spec's ``linux.seccomp``: rules may apply only to
containers with a capability, to an architecture or from a kernel on. What applies here and now is decided
when the file is read; what is left is plain data that the sandbox compiles (buildkit_py.linux.seccomp).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping

from buildkit_py.errors import UsageError
from buildkit_py.linux import caps, seccomp
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_ACTIONS = {
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
}
_ERRNO = 0x00050000
_ARCHITECTURES = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "i386", "SCMP_ARCH_AARCH64": "aarch64"}
_GO = {"x86_64": "amd64", "aarch64": "arm64"}
"""A machine as Docker's profiles name it."""
_FAIL = -1


class Condition(NamedTuple):
    """On one argument of a call. ``operation`` is libseccomp's, without ``SCMP_CMP_``."""

    argument: int
    operation: str
    value: int
    second: int


class Rule(NamedTuple):
    action: int
    names: tuple[str, ...]
    conditions: tuple[Condition, ...]
    """All of them hold where the rule applies."""


class Profile(NamedTuple):
    default: int
    abis: tuple[str, ...]
    """Names of seccomp.AUDIT_ARCH; calls of others answer ENOSYS."""
    rules: tuple[Rule, ...]


def to_tuples(profile: Profile) -> tuple[Any, ...]:
    """What marshal takes."""
    rules = ((action, names, tuple(map(tuple, conditions))) for action, names, conditions in profile.rules)
    return (profile.default, profile.abis, tuple(rules))


def from_tuples(plain: Any) -> Profile:
    """What marshal made of a Profile."""
    default, abis, rules = plain
    made = (
        Rule(action, tuple(names), tuple(Condition(*c) for c in conditions))
        for action, names, conditions in rules
    )
    return Profile(default, tuple(abis), tuple(made))


def read(path: str, capabilities: int) -> Profile:
    """The profile of a file, for a container with these capabilities. Raises UsageError."""
    try:
        with open(path, encoding="utf-8") as f:
            document = json.load(f)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise UsageError(f"--security-opt: the seccomp profile {path} can't be read: {reason}") from e
    try:
        return parse(document, capabilities, os.uname().machine, os.uname().release)
    except UsageError as e:
        e.message = f"--security-opt: {path}: {e.message}"
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise UsageError(
            f"--security-opt: {path} is no seccomp profile: {e}",
            hint="the form is Docker's: defaultAction, syscalls with names and action",
        ) from e


def parse(document: Any, capabilities: int, machine: str, release: str) -> Profile:
    """Raises UsageError for an action that is not known, other errors for what has another form."""
    default = _action(document["defaultAction"], document.get("defaultErrnoRet"))
    rules: list[Rule] = []
    for item in document.get("syscalls") or ():
        if not _applies(item, capabilities, machine, release):
            continue
        names = tuple(item.get("names") or (item["name"],))
        action = _action(item["action"], item.get("errnoRet"))
        conditions = [_condition(c) for c in item.get("args") or ()]
        arguments = [c.argument for c in conditions]
        if len(set(arguments)) < len(arguments):
            # As runc has it: several on one argument are alternatives.
            rules += (Rule(action, names, (c,)) for c in conditions)
        else:
            rules.append(Rule(action, names, tuple(conditions)))
    return Profile(default, _abis(document, machine), tuple(rules))


def _applies(item: Mapping[str, Any], capabilities: int, machine: str, release: str) -> bool:
    has = {f"CAP_{name}" for name in caps.names(capabilities)}
    only, never = item.get("includes") or {}, item.get("excludes") or {}
    arch = _GO.get(machine, machine)
    return (
        set(only.get("caps") or ()) <= has
        and not set(never.get("caps") or ()) & has
        and (not only.get("arches") or arch in only["arches"])
        and arch not in (never.get("arches") or ())
        and _version(release) >= _version(only.get("minKernel") or "0")
        and not (never.get("minKernel") and _version(release) >= _version(never["minKernel"]))
    )


def _version(text: str) -> tuple[int, int]:
    parts = ["".join(c for c in part if c.isdigit()) for part in text.split("-")[0].split(".")[:2]]
    numbers = [int(part or "0") for part in parts]
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0)


def _action(name: str, errno: int | None) -> int:
    if name not in _ACTIONS:
        known = ", ".join(_ACTIONS)
        raise UsageError(f"the action {name} is not done here", hint=f"known are {known}")
    if name == "SCMP_ACT_ERRNO":
        return _ACTIONS[name] | (1 if errno is None else int(errno) & 0xFFFF)
    return _ACTIONS[name]


def action_name(action: int) -> tuple[str, int | None]:
    """The name of an action, and its errno where it has one."""
    if action & 0xFFFF0000 == _ERRNO:
        return "SCMP_ACT_ERRNO", action & 0xFFFF
    return next(name for name, value in _ACTIONS.items() if value == action), None


def _condition(item: Mapping[str, Any]) -> Condition:
    operation = str(item["op"]).removeprefix("SCMP_CMP_")
    if operation not in _COMPARISONS:
        raise UsageError(f"the comparison {item['op']} is not known")
    index = int(item["index"])
    if not 0 <= index < 6:
        raise UsageError(f"a call has six arguments: there is no index {index}")
    return Condition(index, operation, int(item["value"]), int(item.get("valueTwo") or 0))


def _abis(document: Mapping[str, Any], machine: str) -> tuple[str, ...]:
    names = set(document.get("architectures") or ())
    for item in document.get("archMap") or ():
        if _ARCHITECTURES.get(item["architecture"]) == machine:
            names |= {item["architecture"], *(item.get("subArchitectures") or ())}
    found = {_ARCHITECTURES[name] for name in names if name in _ARCHITECTURES}
    return tuple(sorted(found | {machine}))


def answers_of(profile: Profile) -> Callable[[str], int | seccomp.Code]:
    """The answer by name, as seccomp.actions wants it: rules on arguments in their order, then the rule
    without, then the default."""
    by_name: dict[str, list[Rule]] = {}
    for rule in profile.rules:
        for name in rule.names:
            by_name.setdefault(name, []).append(rule)

    def answer(name: str) -> int | seccomp.Code:
        rules = by_name.get(name, [])
        plain = [rule.action for rule in rules if not rule.conditions]
        last = plain[0] if plain else profile.default
        code = [line for rule in rules if rule.conditions for line in _compiled(rule)]
        return [*code, (seccomp.RET, 0, 0, last)] if code else last

    return answer


def _compiled(rule: Rule) -> seccomp.Code:
    """Code that returns the rule's action where all conditions hold, and else goes on after it."""
    lines = [line for c in rule.conditions for line in _COMPARISONS[c.operation](c)]
    lines.append((seccomp.RET, 0, 0, rule.action))
    end = len(lines)
    return [
        (op, end - at - 1 if yes == _FAIL else yes, end - at - 1 if no == _FAIL else no, constant)
        for at, (op, yes, no, constant) in enumerate(lines)
    ]


# Comparisons of 64 bits in halves: _FAIL leads out of the rule, the end of the lines on.


def _load(condition: Condition, high: bool) -> tuple[int, int, int, int]:
    return (seccomp.LD, 0, 0, 16 + 8 * condition.argument + (4 if high else 0))


def _halves(value: int) -> tuple[int, int]:
    return value >> 32 & 0xFFFFFFFF, value & 0xFFFFFFFF


def _equal(c: Condition) -> seccomp.Code:
    high, low = _halves(c.value)
    return [_load(c, True), (seccomp.JEQ, 0, _FAIL, high), _load(c, False), (seccomp.JEQ, 0, _FAIL, low)]


def _different(c: Condition) -> seccomp.Code:
    high, low = _halves(c.value)
    return [_load(c, True), (seccomp.JEQ, 0, 2, high), _load(c, False), (seccomp.JEQ, _FAIL, 0, low)]


def _masked(c: Condition) -> seccomp.Code:
    """``value`` is the mask, ``second`` what must be left."""
    lines: seccomp.Code = []
    for high, mask, want in zip((True, False), _halves(c.value), _halves(c.second), strict=True):
        lines += [_load(c, high), (seccomp.AND, 0, 0, mask), (seccomp.JEQ, 0, _FAIL, want)]
    return lines


def _above(last: int) -> Callable[[Condition], seccomp.Code]:
    """Greater (JGT) or greater or equal (JGE) in the low half."""

    def code(c: Condition) -> seccomp.Code:
        high, low = _halves(c.value)
        return [
            _load(c, True),
            (seccomp.JGT, 3, 0, high),
            (seccomp.JEQ, 0, _FAIL, high),
            _load(c, False),
            (last, 0, _FAIL, low),
        ]

    return code


def _below(last: int) -> Callable[[Condition], seccomp.Code]:
    """Not greater or equal (JGE), or not greater (JGT), in the low half."""

    def code(c: Condition) -> seccomp.Code:
        high, low = _halves(c.value)
        return [
            _load(c, True),
            (seccomp.JGT, _FAIL, 0, high),
            (seccomp.JEQ, 0, 2, high),
            _load(c, False),
            (last, _FAIL, 0, low),
        ]

    return code


_COMPARISONS: Mapping[str, Callable[[Condition], seccomp.Code]] = {
    "EQ": _equal,
    "NE": _different,
    "MASKED_EQ": _masked,
    "GT": _above(seccomp.JGT),
    "GE": _above(seccomp.JGE),
    "LT": _below(seccomp.JGE),
    "LE": _below(seccomp.JGT),
}
