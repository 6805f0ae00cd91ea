"""LABEL: metadata of the image."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    words = [state.expand(instruction, word) for word in instruction.args]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    labels = dict(state.config.get("Labels") or {})
    for name, value in pairs:
        if not name:
            raise state.fail(instruction, "LABEL: the name of a label is empty")
        labels[name] = value
    state.config["Labels"] = labels
    state.commit("LABEL " + " ".join(f"{name}={value}" for name, value in pairs))
