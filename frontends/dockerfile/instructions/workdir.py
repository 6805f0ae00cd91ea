"""WORKDIR: the directory of later steps and of the container; made where missing."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState
from buildkit_py.llb.ops import File, Mkdir


def apply(state: StageState, instruction: Instruction) -> None:
    path = state.expand(instruction, instruction.args[0])
    if not path:
        raise state.fail(instruction, f"WORKDIR {instruction.args[0]} is empty", word=instruction.args[0])
    if not path.startswith("/") and not state.own_workdir:
        state.conversion.note("relative-workdir", instruction, path)
    state.own_workdir = True
    directory = state.absolute(path)
    state.config["WorkingDir"] = directory
    meta = state.step(instruction)
    if directory != "/":
        actions = (Mkdir(directory, user=state.user),)
        if state.root is None:
            state.root = state.add(File(actions, base=False), (), meta)
        else:
            state.root = state.add(File(actions), (state.root,), meta)
    state.commit(f"WORKDIR {directory}", layer=directory != "/")
