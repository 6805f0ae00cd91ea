"""ARG in a stage: ``--build-arg``, its own default, a global ARG's value, in this order."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile import args
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    words = []
    # As everywhere, the words of one instruction don't see each other.
    found = [(name, _value(state, instruction, name, default)) for name, default in _split(instruction)]
    for name, value in found:
        if not name:
            raise state.fail(instruction, "ARG: the name of a variable is empty")
        state.scope.declare(name, value)
        words.append(name if value is None else f"{name}={value}")
    state.commit("ARG " + " ".join(words))


def _split(instruction: Instruction) -> list[tuple[str, str | None]]:
    return [args.split(word) for word in instruction.args]


def _value(state: StageState, instruction: Instruction, name: str, default: str | None) -> str | None:
    conversion = state.conversion
    expanded = None if default is None else state.expand(instruction, default)
    given = conversion.options.build_args.get(name)
    if given is not None:
        return given
    if expanded is not None:
        return expanded
    if name in args.PROXY and name in conversion.options.proxy:
        return conversion.options.proxy[name]
    return conversion.globals.get(name)
