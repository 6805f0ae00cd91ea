"""COPY: files of the context, of another stage, of an image, or of heredocs."""

from __future__ import annotations

from buildkit_py.digest import Digest
from buildkit_py.frontends.dockerfile import transfer
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.references import tree_from
from buildkit_py.frontends.dockerfile.stage import StageState, flag, flag_bool
from buildkit_py.llb.ops import Copy


def apply(state: StageState, instruction: Instruction) -> None:
    origin = flag(instruction, "from")
    found = transfer.words(state, instruction)
    chown, chmod = transfer.ownership(state, instruction)
    inputs: list[Digest] = []
    actions: list[Copy] = []
    if found.sources:
        inputs.append(_origin(state, instruction, origin, found))
        actions.append(
            Copy(
                0,
                found.sources,
                found.dest,
                keep_owner=bool(origin),
                chown=chown,
                chmod=chmod,
                parents=flag_bool(instruction, "parents") is True,
                exclude=transfer.excludes(instruction),
            )
        )
    if found.heredocs:
        inputs.append(state.inline(instruction, found.heredocs))
        names = tuple(name for name, _, _ in found.heredocs)
        actions.append(Copy(len(inputs) - 1, names, found.dest, chown=chown, chmod=chmod))
    transfer.emit(state, instruction, actions, inputs, state.step(instruction))
    transfer.history(state, instruction, found, chown, chmod)


def _origin(state: StageState, instruction: Instruction, origin: str, found: transfer.Words) -> Digest:
    if origin:
        return tree_from(state, instruction, origin, flag_name="--from")
    state.conversion.note("context-sources", instruction, *found.sources)
    return state.conversion.local()
