"""ENTRYPOINT: clears a CMD that was inherited; one of this same stage stays."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.gotext import quoted_list
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    command = state.command(instruction)
    if command:
        state.config["Entrypoint"] = command
    else:
        state.config.pop("Entrypoint", None)
    if not state.own_cmd:
        state.config.pop("Cmd", None)
    state.commit(f"ENTRYPOINT {quoted_list(command)}")
