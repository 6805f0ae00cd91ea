"""MAINTAINER: the image's author; deprecated in favour of a label."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    author = instruction.args[0]
    state.document["author"] = author
    state.commit(f"MAINTAINER {author}")
