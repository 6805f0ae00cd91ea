"""``--from=`` of COPY and ``from=`` of RUN --mount: a stage, a named context, else an image."""

from __future__ import annotations

from buildkit_py.digest import Digest
from buildkit_py.frontends.dockerfile.ast import Instruction, Stage
from buildkit_py.frontends.dockerfile.stage import StageState


def tree_from(
    state: StageState, instruction: Instruction, name: str, *, flag_name: str, index: bool = True
) -> Digest:
    """The tree that a name stands for. ``index``: a number may name a stage. Raises DockerfileError."""
    conversion = state.conversion
    word = f"{flag_name}={name}".removeprefix("--mount ")
    if "$" in name:
        raise state.fail(
            instruction,
            f"{flag_name}={name}: variables are not expanded here",
            hint=f"name a stage before this one: FROM {name} AS source; then write {flag_name}=source",
            word=word,
        )
    if not name:
        raise state.fail(instruction, f"{flag_name} is empty", word=word)
    if conversion.named_context(name) is not None:
        return conversion.other_tree(name, state.platform, instruction)
    stage = find(state, instruction, name, index=index, flag_name=flag_name)
    if stage is not None:
        other = conversion.state(stage, instruction)
        return conversion.empty() if other.root is None else other.root
    if name == "scratch":
        return conversion.empty()
    return conversion.other_tree(name, state.platform, instruction)


def find(
    state: StageState, instruction: Instruction, name: str, *, index: bool, flag_name: str
) -> Stage | None:
    conversion = state.conversion
    word = f"{flag_name}={name}".removeprefix("--mount ")
    stage = conversion.find_name(name, but=state.index)
    if stage is None and name.lower() == state.stage.name:
        raise state.fail(
            instruction,
            f"{flag_name}={name}: stage {state.stage.name!r} refers to itself",
            hint="files of the same stage can be moved by RUN",
            word=word,
        )
    if stage is not None or not (name.isascii() and name.isdigit()):
        return stage
    if not index:
        raise state.fail(
            instruction,
            f"{flag_name}={name}: a stage can't be given by its number here",
            hint="name the stage: FROM … AS name",
            word=word,
        )
    if len(name) > 9 or int(name) >= len(conversion.stages):
        raise state.fail(
            instruction,
            f"{flag_name}={name}: there is no stage {name}",
            hint=f"this file has the stages 0 to {len(conversion.stages) - 1}",
            word=word,
        )
    if int(name) == state.index:
        raise state.fail(instruction, f"{flag_name}={name}: stage {name} refers to itself", word=word)
    return conversion.stages[int(name)]
