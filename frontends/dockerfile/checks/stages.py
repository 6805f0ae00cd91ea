"""Rules about FROM and the names of stages."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit_py.errors import PybuildError
from buildkit_py.frontends.dockerfile import args, expand, platform
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.checks.finding import Finding, near
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.conversion import Conversion

RESERVED = ("scratch", "context")


def stage_name_casing(conversion: Conversion) -> Iterator[Finding]:
    for stage in conversion.stages:
        first = stage.instructions[0]
        if stage.name and first.args[2] != stage.name:
            yield Finding(first.range, f"Stage name '{first.args[2]}' should be lowercase")


def from_as_casing(conversion: Conversion) -> Iterator[Finding]:
    for stage in conversion.stages:
        first = stage.instructions[0]
        if not stage.name:
            continue
        word, other = first.written, first.args[1]
        if (word.isupper() and not other.isupper()) or (word.islower() and not other.islower()):
            yield Finding(first.range, f"'{other}' and '{word}' keywords' casing do not match")


def duplicate_stage_name(conversion: Conversion) -> Iterator[Finding]:
    seen: set[str] = set()
    for stage in conversion.stages:
        if stage.name in seen:
            message = f"Duplicate stage name '{stage.name}', stage names should be unique"
            yield Finding(stage.instructions[0].range, message)
        if stage.name:
            seen.add(stage.name)


def reserved_stage_name(conversion: Conversion) -> Iterator[Finding]:
    for stage in conversion.stages:
        if stage.name in RESERVED:
            message = f"'{stage.name}' is reserved and should not be used as a stage name"
            yield Finding(stage.instructions[0].range, message)


def redundant_target_platform(conversion: Conversion) -> Iterator[Finding]:
    for stage in conversion.stages:
        if stage.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            message = (
                f"Setting platform to predefined {stage.platform} in FROM is redundant as this is the "
                "default behavior"
            )
            yield Finding(stage.instructions[0].range, message)


def from_platform_flag_const(conversion: Conversion) -> Iterator[Finding]:
    for stage in conversion.stages:
        if not stage.platform or "$" in stage.platform:
            continue
        try:
            wanted = platform.parse(stage.platform)
        except ValueError:
            continue
        if stage.name and (wanted.os in stage.name or wanted.arch in stage.name):
            continue
        message = f'FROM --platform flag should not use constant value "{stage.platform}"'
        yield Finding(stage.instructions[0].range, message)


def undefined_arg_in_from(conversion: Conversion) -> Iterator[Finding]:
    froms = {stage.instructions[0].range for stage in conversion.stages}
    for note in conversion.notes:
        if note.kind == "unset-global" and note.range in froms:
            name, *known = note.data
            yield Finding(note.range, f"FROM argument '{name}' is not declared{near(name, known)}")


def invalid_default_arg_in_from(conversion: Conversion) -> Iterator[Finding]:
    if not any("$" in stage.base for stage in conversion.stages):
        return
    defaults = _default_globals(conversion)
    for stage in conversion.stages:
        if "$" not in stage.base:
            continue
        try:
            base = expand.expand(stage.base, defaults, conversion.dockerfile.escape).text
        except expand.ExpansionError:
            continue
        if not _is_base(conversion, base, stage.index):
            message = f"Default value for ARG {stage.base} results in empty or invalid base image name"
            yield Finding(stage.instructions[0].range, message)


def _default_globals(conversion: Conversion) -> dict[str, str]:
    values = args.automatic(
        conversion.target_platform, conversion.build_platform, conversion.options.target, {}
    )
    for instruction in conversion.dockerfile.instructions:
        if instruction.name != "arg":
            break
        for word in instruction.args:
            name, default = args.split(word)
            if default is not None:
                try:
                    values[name] = expand.expand(default, values, conversion.dockerfile.escape).text
                except expand.ExpansionError:
                    continue
    return values


def _is_base(conversion: Conversion, base: str, before: int) -> bool:
    if not base:
        return False
    if base == "scratch" or conversion.find_name(base, before=before) is not None:
        return True
    from buildkit_py.image import reference

    try:
        reference.parse(base)
    except PybuildError:
        return False
    return True


def invalid_definition_description(conversion: Conversion) -> Iterator[Finding]:
    for instruction in conversion.dockerfile.instructions:
        names = _described(instruction)
        if not names or not instruction.comments or instruction.comments[-1].startswith("check="):
            continue
        comment = instruction.comments[-1]
        if comment.partition(" ")[0] not in names:
            kind, name = ("build stage", "stage") if instruction.name == "from" else ("argument", "arg")
            message = (
                f"Comment for {kind} should follow the format: `# <{name} name> <description>`. If this is "
                "not intended to be a description comment, add an empty line or comment between the "
                "instruction and the comment."
            )
            yield Finding(instruction.range, message)


def _described(instruction: Instruction) -> tuple[str, ...]:
    """The names that a comment above an instruction may describe."""
    if instruction.name == "from" and len(instruction.args) == 3:
        return (instruction.args[2],)
    if instruction.name == "arg":
        return tuple(args.split(word)[0] for word in instruction.args)
    return ()
