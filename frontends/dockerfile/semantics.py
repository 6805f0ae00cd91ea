"""What needs to know the instructions: their flags, numbers of arguments, and the stages they make.

Judges only what stands in the file. Values with variables are judged when they are expanded.
"""

from __future__ import annotations

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Instruction, Stage
from buildkit_py.frontends.dockerfile.facts import (
    INSTRUCTIONS,
    NETWORKS,
    NOT_ON_BUILD,
    SECURITIES,
    Facts,
)
from buildkit_py.frontends.dockerfile.lexer import column_of
from buildkit_py.frontends.dockerfile.words import heredoc_opener

_NAME_REST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class _Problem(Exception):
    """What is wrong with an instruction; ``word`` is where the caret goes."""

    def __init__(self, message: str, word: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.word = word
        self.hint = hint


def stages(dockerfile: Dockerfile) -> tuple[Stage, ...]:
    """The file's build stages in order. Never fails: what a faulty FROM lacks is empty."""
    found: list[Stage] = []
    current: list[Instruction] = []
    for instruction in dockerfile.instructions:
        if instruction.name == "from":
            if current:
                found.append(_stage(len(found), current))
            current = [instruction]
        elif current:
            current.append(instruction)
    if current:
        found.append(_stage(len(found), current))
    return tuple(found)


def _stage(index: int, instructions: list[Instruction]) -> Stage:
    first = instructions[0]
    args = first.args
    name = args[2].lower() if len(args) == 3 and args[1].lower() == "as" else ""
    platform = ""
    for flag in first.flags:
        if flag.startswith("--platform="):
            platform = flag[len("--platform=") :]
    return Stage(index, name, args[0] if args else "", platform, tuple(instructions))


def check(dockerfile: Dockerfile) -> DockerfileError | None:
    """Why the file can't be built, as the error to raise; None if nothing speaks against it."""
    problem = check_instructions(dockerfile)
    if problem is None and not any(instruction.name == "from" for instruction in dockerfile.instructions):
        last = dockerfile.instructions[-1]
        return _error(dockerfile, last, _Problem("the Dockerfile has no build stage: there is no FROM"))
    return problem


def check_instructions(dockerfile: Dockerfile) -> DockerfileError | None:
    """The first instruction that is not acceptable, as the error to raise; None if all are."""
    in_stage = False
    for instruction in dockerfile.instructions:
        try:
            _check(instruction)
            if instruction.name == "from":
                in_stage = True
            elif not in_stage and instruction.name != "arg":
                raise _Problem(
                    f"no build stage yet: {instruction.name.upper()} must come after FROM",
                    instruction.written,
                    "only ARG may stand before the first FROM",
                )
        except _Problem as problem:
            return _error(dockerfile, instruction, problem)
    return None


def _error(dockerfile: Dockerfile, instruction: Instruction, problem: _Problem) -> DockerfileError:
    start, end = instruction.range
    column = 0
    hint = problem.hint
    if "\r" in instruction.text and len(dockerfile.lines) == 1:
        hint = "the lines end in carriage returns alone: save the file with line feeds"
    if problem.word and start <= len(dockerfile.lines):
        column = column_of(dockerfile.lines[start - 1], problem.word)
    return DockerfileError(
        problem.message,
        path=dockerfile.path,
        start=start,
        end=end,
        column=column,
        lines=dockerfile.lines,
        hint=hint,
        word=problem.word,
    )


def _check(instruction: Instruction) -> None:
    facts = INSTRUCTIONS.get(instruction.name)
    if facts is None:
        raise _Problem(
            f"unknown instruction: {instruction.written}"
            + _near(instruction.name.upper(), tuple(name.upper() for name in INSTRUCTIONS)),
            instruction.written,
            _odd(instruction.written),
        )
    name = instruction.name
    # A HEALTHCHECK NONE has nothing that its flags could apply to.
    if instruction.flags and not (name == "healthcheck" and _kind(instruction) == "NONE"):
        _check_flags(instruction, facts)
    if not facts.minimum <= len(instruction.args) <= facts.maximum:
        raise _Problem(_count_message(instruction, facts), instruction.written)
    if any("\0" in arg for arg in instruction.args):
        raise _Problem(f"{name.upper()}: no argument can hold a NUL byte", "\\u0000")
    rule = _RULES.get(name)
    if rule is not None:
        rule(instruction)


def _count_message(instruction: Instruction, facts: Facts) -> str:
    upper = instruction.name.upper()
    if instruction.name in ("add", "copy") and len(instruction.args) == 1:
        return (
            f"{upper} requires {facts.arity}, but only one was provided. Destination could not be determined."
        )
    return f"{upper} requires {facts.arity}"


def _check_flags(instruction: Instruction, facts: Facts) -> None:
    kinds = dict(facts.flags)
    seen: set[str] = set()
    upper = instruction.name.upper()
    for flag in instruction.flags:
        name, equals, value = flag[2:].partition("=")
        kind = kinds.get(name)
        if kind is None:
            if not kinds:
                message = f"unknown flag: --{name} ({upper} takes no flags)"
                raise _Problem(message, f"--{name}", "a bare -- ends the flags of an instruction")
            raise _Problem(f"unknown flag: --{name} of {upper}{_near(name, tuple(kinds))}", f"--{name}")
        if name in seen and kind != "list":
            raise _Problem(f"duplicate flag specified: --{name}", f"--{name}")
        seen.add(name)
        if kind == "bool":
            if equals and value.lower() not in ("true", "false"):
                message = f"expecting a boolean value for flag --{name}, not {value!r}"
                raise _Problem(message, f"--{name}")
        elif not equals:
            raise _Problem(f"missing a value on flag: --{name}", f"--{name}", f"write --{name}=VALUE")


def _from(instruction: Instruction) -> None:
    args = instruction.args
    if len(args) == 1:
        return
    if len(args) != 3 or args[1].lower() != "as":
        raise _Problem("FROM requires " + INSTRUCTIONS["from"].arity, args[1], "FROM image AS name")
    name = args[2].lower()
    if not ("a" <= name[0] <= "z" and _NAME_REST.issuperset(name)):
        raise _Problem(
            f"invalid name for build stage: {args[2]!r}",
            args[2],
            "a name starts with a letter and holds letters, digits, - _ and . only",
        )


def _copy(instruction: Instruction) -> None:
    if instruction.heredocs and not instruction.json and heredoc_opener(instruction.args[-1]):
        upper = instruction.name.upper()
        raise _Problem(f"{upper} cannot accept a heredoc as a destination", instruction.args[-1])


def _pairs(instruction: Instruction) -> None:
    if any(not name for name in instruction.args[::2]):
        raise _Problem(f"{instruction.name.upper()} names can not be blank", instruction.written)


def _arg(instruction: Instruction) -> None:
    for word in instruction.args:
        if word.startswith("="):
            raise _Problem("ARG names can not be blank", word)


def _volume(instruction: Instruction) -> None:
    if any(not word.strip() for word in instruction.args):
        raise _Problem("VOLUME specified can not be an empty string", instruction.written)


def _shell(instruction: Instruction) -> None:
    if not instruction.json:
        raise _Problem(
            "SHELL requires the arguments to be in JSON form",
            instruction.written,
            'for example SHELL ["/bin/bash", "-c"]',
        )


def _onbuild(instruction: Instruction) -> None:
    sub = instruction.sub
    if sub is None:
        raise _Problem("ONBUILD requires an instruction", instruction.written)
    if sub.name == "onbuild":
        raise _Problem("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", instruction.written)
    if sub.name in NOT_ON_BUILD:
        raise _Problem(f"{sub.name.upper()} isn't allowed as an ONBUILD trigger", sub.written)


def _run(instruction: Instruction) -> None:
    for flag in instruction.flags:
        name, _, value = flag[2:].partition("=")
        if name == "network" and value not in NETWORKS:
            raise _Problem(f"invalid network mode {value!r}{_near(value, NETWORKS)}", flag)
        if name == "security" and value not in SECURITIES:
            raise _Problem(f"invalid security mode {value!r}{_near(value, SECURITIES)}", flag)
        if name == "mount":
            from buildkit_py.frontends.dockerfile import mountfacts

            try:
                mountfacts.check(value)
            except ValueError as error:
                raise _Problem(str(error), flag) from None


def _kind(instruction: Instruction) -> str:
    return instruction.args[0].upper() if instruction.args else ""


def _healthcheck(instruction: Instruction) -> None:
    kind = _kind(instruction)
    if kind == "NONE":
        if len(instruction.args) > 1:
            raise _Problem("HEALTHCHECK NONE takes no arguments", instruction.args[0])
        return
    if kind != "CMD":
        message = f"unknown type {instruction.args[0]!r} in HEALTHCHECK"
        raise _Problem(message, instruction.args[0], "write HEALTHCHECK CMD …, or HEALTHCHECK NONE")
    if len(instruction.args) == 1:
        raise _Problem("missing command after HEALTHCHECK CMD", instruction.args[0])
    for flag in instruction.flags:
        name, _, value = flag[2:].partition("=")
        if name == "retries":
            _check_retries(value, flag)
        elif value:
            _check_duration(name, value, flag)


def _check_retries(value: str, flag: str) -> None:
    digits = value[1:] if value[:1] in ("-", "+") else value
    if value and not (digits.isascii() and digits.isdigit() and len(digits) < 11):
        raise _Problem(f"--retries must be a number, not {value!r}", flag)
    if value and not 0 <= int(value) < 1 << 31:
        raise _Problem(f"--retries must be at least 0, and no more than {(1 << 31) - 1}", flag)


def _check_duration(name: str, value: str, flag: str) -> None:
    from buildkit_py.frontends.dockerfile import goduration

    try:
        nanoseconds = goduration.parse(value)
    except ValueError as error:
        raise _Problem(f"--{name}: {error}", flag) from None
    if nanoseconds != 0 and nanoseconds < 1_000_000:
        raise _Problem(f"--{name}={value}: the interval cannot be less than 1ms", flag)


def _odd(word: str) -> str:
    """A hint at a character that looks like nothing, or like another one."""
    for character in word:
        if character.isascii() and character.isprintable():
            continue
        import unicodedata

        name = unicodedata.name(character, "a control character")
        return f"it holds the character U+{ord(character):04X} ({name})"
    return ""


_RULES = {
    "add": _copy,
    "arg": _arg,
    "copy": _copy,
    "env": _pairs,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": _pairs,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "volume": _volume,
}


def _near(word: str, known: tuple[str, ...]) -> str:
    from buildkit_py.frontends.dockerfile import mountfacts

    return mountfacts.near(word, known)
