"""ONBUILD: an instruction kept for the builds that start from this image."""

from __future__ import annotations

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile import parser
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.conversion import Conversion

_FORBIDDEN = ("from", "maintainer", "onbuild")


def apply(state: StageState, instruction: Instruction) -> None:
    sub = instruction.sub
    if sub is None:
        raise state.fail(instruction, "ONBUILD needs an instruction")
    trigger = raw(sub)
    state.config["OnBuild"] = [*(state.config.get("OnBuild") or ()), trigger]
    state.commit(f"ONBUILD {trigger}")


def raw(instruction: Instruction) -> str:
    """The instruction as it was written, with the bodies of its heredocs."""
    text = instruction.text
    for heredoc in instruction.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    return text


def parse_triggers(
    conversion: Conversion, instruction: Instruction, triggers: list[str]
) -> tuple[Instruction, ...]:
    """The triggers of a base, at the place of the FROM that fires them. Raises DockerfileError."""
    found: list[Instruction] = []
    for trigger in triggers:
        try:
            parsed = parser.parse(str(trigger).encode(), conversion.dockerfile.path)
            whole = parsed._replace(instructions=(instruction, *parsed.instructions))
            problem = conversion.check(whole)
        except DockerfileError as error:
            problem = error
        if problem is None and any(i.name in _FORBIDDEN for i in parsed.instructions):
            problem = conversion.fail(
                None, f"{parsed.instructions[0].name.upper()} is not allowed in ONBUILD"
            )
        if problem is not None:
            raise conversion.fail(
                instruction.range,
                f"the base's ONBUILD trigger {trigger!r}: {problem.message}",
                hint=problem.hint,
            )
        found.extend(i._replace(range=instruction.range) for i in parsed.instructions)
    return tuple(found)
