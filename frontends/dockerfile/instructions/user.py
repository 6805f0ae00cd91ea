"""USER: who later steps and the container run as; not looked up before it is needed."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    user = state.expand(instruction, instruction.args[0])
    state.config["User"] = user
    state.commit(f"USER {user}")
