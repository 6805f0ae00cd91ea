"""A Dockerfile's instructions as a graph, for planning, drawing and explaining.

Nodes are indexes into ``Dockerfile.instructions``, edges point from what is needed to what needs it.
Dockerfile reference, "FROM", "COPY --from", "RUN --mount".
"""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Dockerfile, Instruction, Stage
from buildkit_py.frontends.dockerfile.semantics import stages
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx


class Reference(NamedTuple):
    """A place where an instruction names another stage, an image or a named context."""

    instruction: int
    kind: str
    """``from``, ``copy`` or ``mount``."""
    name: str
    """As written."""
    stage: int | None
    """The stage that is meant; None: an image, a named context or, for a number, nothing."""


class Problem(NamedTuple):
    """A reference that can't be followed."""

    kind: str
    """``missing`` (a stage index that doesn't exist), ``self`` or ``cycle``."""
    instruction: int
    stages: tuple[int, ...]
    """The stages of the cycle, empty for a missing one."""


def instruction_dag(dockerfile: Dockerfile) -> networkx.DiGraph[int]:
    """Edges have a ``kind``: ``order`` within a stage, ``from``, ``copy`` or ``mount`` between stages.

    Nodes carry ``name``, ``stage`` (None before the first FROM), ``start``, ``end`` and ``images`` (the
    names that no stage has). A reference to a stage depends on its last instruction. The graph has
    cycles where the file has; ``problems`` finds them.
    """
    import networkx

    graph: networkx.DiGraph[int] = networkx.DiGraph()
    stage_of = _stage_of(dockerfile)
    last: dict[int, int] = {}
    for index, instruction in enumerate(dockerfile.instructions):
        stage = stage_of[index]
        graph.add_node(
            index,
            name=instruction.name,
            stage=stage,
            start=instruction.range.start,
            end=instruction.range.end,
            images=(),
        )
        if stage is not None:
            if stage in last:
                graph.add_edge(last[stage], index, kind="order")
            last[stage] = index
    for reference in references(dockerfile):
        if reference.stage is None:
            node = graph.nodes[reference.instruction]
            node["images"] = (*node["images"], reference.name)
        else:
            graph.add_edge(last[reference.stage], reference.instruction, kind=reference.kind)
    return graph


def references(dockerfile: Dockerfile) -> tuple[Reference, ...]:
    """Every reference of the file, triggers of ONBUILD aside: they belong to other builds.

    FROM sees earlier stages only, a later name is an image there. Names with variables are unknown yet
    and count as images.
    """
    all_stages = stages(dockerfile)
    stage_of = _stage_of(dockerfile)
    found: list[Reference] = []
    for index, instruction in enumerate(dockerfile.instructions):
        current = stage_of[index]
        if current is None:
            continue
        for kind, name in _names(instruction):
            if kind == "from":
                stage = _find(all_stages[:current], name, by_index=False)
            else:
                stage = _find(all_stages, name, by_index=kind == "copy")
            found.append(Reference(index, kind, name, stage))
    return tuple(found)


def problems(dockerfile: Dockerfile) -> tuple[Problem, ...]:
    """Missing, self-referring and circular stages, in the order of the instructions."""
    stage_of = _stage_of(dockerfile)
    found: list[Problem] = []
    needs: dict[int, list[int]] = {}
    for reference in references(dockerfile):
        current = stage_of[reference.instruction]
        if current is None:
            continue
        if reference.stage is None:
            if reference.kind == "copy" and _is_index(reference.name):
                found.append(Problem("missing", reference.instruction, ()))
        elif reference.stage == current:
            found.append(Problem("self", reference.instruction, (current,)))
        else:
            chain = _path(needs, reference.stage, current)
            if chain:
                found.append(Problem("cycle", reference.instruction, (current, *chain)))
            needs.setdefault(current, []).append(reference.stage)
    return tuple(found)


def _path(needs: dict[int, list[int]], start: int, goal: int) -> tuple[int, ...]:
    """Stages from ``start`` to ``goal`` along what they need; empty for no way."""
    came: dict[int, int] = {start: -1}
    waiting = [start]
    while waiting:
        stage = waiting.pop()
        if stage == goal:
            chain = [stage]
            while came[chain[-1]] >= 0:
                chain.append(came[chain[-1]])
            return tuple(reversed(chain))
        for needed in needs.get(stage, ()):
            if needed not in came:
                came[needed] = stage
                waiting.append(needed)
    return ()


def _names(instruction: Instruction) -> list[tuple[str, str]]:
    found = []
    if instruction.name == "from" and instruction.args:
        found.append(("from", instruction.args[0]))
    for flag in instruction.flags:
        name, _, value = flag.partition("=")
        if instruction.name == "copy" and name == "--from" and value:
            found.append(("copy", value))
        elif instruction.name == "run" and name == "--mount":
            from buildkit_py.frontends.dockerfile import mountfacts

            try:
                options = mountfacts.fields(value)
            except ValueError:
                continue
            found += [("mount", setting) for key, setting in options if key == "from" and setting]
    return found


def _stage_of(dockerfile: Dockerfile) -> list[int | None]:
    found: list[int | None] = []
    current: int | None = None
    for instruction in dockerfile.instructions:
        if instruction.name == "from":
            current = 0 if current is None else current + 1
        found.append(current)
    return found


def _find(candidates: tuple[Stage, ...], name: str, *, by_index: bool) -> int | None:
    lower = name.lower()
    for stage in reversed(candidates):
        if stage.name and stage.name == lower:
            return stage.index
    if by_index and _is_index(name) and int(name[:9]) < len(candidates):
        return int(name[:9])
    return None


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdigit()
