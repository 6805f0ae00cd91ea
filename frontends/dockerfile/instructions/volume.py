"""VOLUME: paths that a container keeps outside its root file system."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    paths = [state.expand(instruction, word) for word in instruction.args]
    volumes = dict(state.config.get("Volumes") or {})
    for path in paths:
        if not path.strip():
            raise state.fail(instruction, "VOLUME: a path is empty")
        volumes[path] = {}
    state.config["Volumes"] = volumes
    state.commit(f"VOLUME [{' '.join(paths)}]")
