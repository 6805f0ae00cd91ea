"""Rules about single instructions, told from the syntax tree alone."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit_py.frontends.dockerfile import args
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.checks.finding import Finding
from buildkit_py.frontends.dockerfile.words import split_first, split_quoted
from buildkit_py.llb.secrecy import is_for_secrets
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.conversion import Conversion


def no_empty_continuation(conversion: Conversion) -> Iterator[Finding]:
    for warning in conversion.dockerfile.warnings:
        if warning.rule == "NoEmptyContinuation":
            yield Finding(warning.range, warning.message)


def consistent_instruction_casing(conversion: Conversion) -> Iterator[Finding]:
    instructions = conversion.dockerfile.instructions
    lower = sum(i.written.islower() for i in instructions)
    upper = sum(i.written.isupper() for i in instructions)
    majority = "lowercase" if lower > upper else "uppercase"
    for instruction in instructions:
        word = instruction.written
        if not (word.islower() if majority == "lowercase" else word.isupper()):
            message = f"Command '{word}' should match the case of the command majority ({majority})"
            yield Finding(instruction.range, message)


def json_args_recommended(conversion: Conversion) -> Iterator[Finding]:
    with_shell: set[int] = set()
    for stage in conversion.stages:
        parent = conversion.find_name(stage.base, before=stage.index)
        shell = parent is not None and parent.index in with_shell
        for instruction in stage.instructions:
            if instruction.name == "shell":
                shell = True
            elif instruction.name in ("cmd", "entrypoint") and not shell and not instruction.json:
                message = (
                    f"JSON arguments recommended for {instruction.name.upper()} to prevent unintended "
                    "behavior related to OS signals"
                )
                yield Finding(instruction.range, message)
        if shell:
            with_shell.add(stage.index)


def maintainer_deprecated(conversion: Conversion) -> Iterator[Finding]:
    for instruction in conversion.dockerfile.instructions:
        if instruction.name == "maintainer":
            message = "Maintainer instruction is deprecated in favor of using label"
            yield Finding(instruction.range, message)


def multiple_instructions_disallowed(conversion: Conversion) -> Iterator[Finding]:
    for stage in conversion.stages:
        last: dict[str, Instruction] = {}
        for instruction in stage.instructions:
            name = instruction.name
            if name not in ("cmd", "entrypoint", "healthcheck"):
                continue
            if name in last:
                message = (
                    f"Multiple {name.upper()} instructions should not be used in the same stage because only "
                    "the last one will be used"
                )
                yield Finding(last[name].range, message)
            last[name] = instruction


def legacy_key_value_format(conversion: Conversion) -> Iterator[Finding]:
    for instruction in conversion.dockerfile.instructions:
        if instruction.name not in ("env", "label"):
            continue
        _, rest = split_first(instruction.text)
        if "=" in rest.split(None, 1)[0]:
            continue
        if "=" not in split_quoted(rest, conversion.dockerfile.escape)[0]:
            word = instruction.name.upper()
            message = f'"{word} key=value" should be used instead of legacy "{word} key value" format'
            yield Finding(instruction.range, message)


def secrets_used_in_arg_or_env(conversion: Conversion) -> Iterator[Finding]:
    for instruction in conversion.dockerfile.instructions:
        if instruction.name == "env":
            names = list(instruction.args[::2])
        elif instruction.name == "arg":
            names = [args.split(word)[0] for word in instruction.args]
        else:
            continue
        for name in names:
            if is_for_secrets(name):
                word = instruction.name.upper()
                message = f'Do not use ARG or ENV instructions for sensitive data ({word} "{name}")'
                yield Finding(instruction.range, message)
