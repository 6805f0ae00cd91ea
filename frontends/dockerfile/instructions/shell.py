"""SHELL: what later shell forms are given to."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    if not instruction.json or not instruction.args:
        raise state.fail(
            instruction,
            "SHELL needs its arguments as a JSON array",
            hint='for example SHELL ["/bin/bash", "-c"]',
        )
    state.config["Shell"] = list(instruction.args)
    state.commit(f"SHELL [{' '.join(instruction.args)}]")
