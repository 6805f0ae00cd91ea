"""CMD: the container's default command, or the default arguments of ENTRYPOINT."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.gotext import quoted_list
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    command = state.command(instruction)
    if command:
        state.config["Cmd"] = command
    else:
        state.config.pop("Cmd", None)
    state.own_cmd = True
    state.commit(f"CMD {quoted_list(command)}")
