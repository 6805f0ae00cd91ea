"""What a Dockerfile can be asked about itself: its targets, and what one of them takes.

Docker's documentation of ``docker buildx build --call=outline`` and ``--call=targets``.
"""

from __future__ import annotations

from collections.abc import Iterable

from buildkit_py.frontends.dockerfile import args, expand, semantics
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Instruction, Range, Stage
from buildkit_py.frontends.dockerfile.conversion import Conversion
from buildkit_py.llb.ops import Exec
from buildkit_py.tuples import NamedTuple

AUTOMATIC = frozenset(
    (
        "TARGETSTAGE",
        *(p + name for p in ("BUILD", "TARGET") for name in ("PLATFORM", "OS", "ARCH", "VARIANT")),
    )
)


class Target(NamedTuple):
    """A stage that a build can stop at; ``name`` is its index where it has none."""

    name: str
    description: str
    base: str
    """As written."""
    platform: str
    default: bool
    range: Range


class Argument(NamedTuple):
    name: str
    value: str | None
    """As the build would see it; None: it has none."""
    description: str
    range: Range


class Wanted(NamedTuple):
    """A secret, an SSH agent or a cache mount, by its id."""

    id: str
    required: bool
    range: Range


class Outline(NamedTuple):
    target: Target
    args: tuple[Argument, ...]
    secrets: tuple[Wanted, ...]
    ssh: tuple[Wanted, ...]
    cache: tuple[Wanted, ...]


def targets(dockerfile: Dockerfile) -> tuple[Target, ...]:
    """All stages, in the order of the file. Raises DockerfileError."""
    problem = semantics.check(dockerfile)
    if problem is not None:
        raise problem
    stages = semantics.stages(dockerfile)
    return tuple(_target(stage, last=stage is stages[-1]) for stage in stages)


def outline(conversion: Conversion) -> Outline:
    """What the target of a conversion takes, with all stages that it needs. Raises DockerfileError."""
    conversion.target()
    stage = conversion.target_stage
    found = {kind: _mounts(conversion, kind) for kind in ("secret", "ssh", "cache")}
    return Outline(
        _target(stage, last=stage is conversion.stages[-1]),
        tuple(_arguments(conversion)),
        found["secret"],
        found["ssh"],
        found["cache"],
    )


def description(instruction: Instruction, *names: str) -> str:
    """The text of a comment ``# <name> text`` directly above."""
    for comment in instruction.comments[-1:]:
        name, _, text = comment.partition(" ")
        if text and name.lower() in {n.lower() for n in names}:
            return text.strip()
    return ""


def _target(stage: Stage, *, last: bool) -> Target:
    first = stage.instructions[0]
    name = stage.name or str(stage.index)
    return Target(name, description(first, name), stage.base, stage.platform, last, first.range)


def _arguments(conversion: Conversion) -> Iterable[Argument]:
    """The ARGs of the stages that the target needs, and the global ones that their FROMs use."""
    stages = [conversion.stages[index] for index in sorted(conversion.states)]
    shown = _global_arguments(conversion)
    used = _used_by_from(conversion, stages)
    found: dict[str, Argument] = {name: shown[name] for name in shown if name in used}
    for stage in stages:
        scope = conversion.states[stage.index].scope
        for instruction in stage.instructions:
            for name in _declared(instruction):
                if name in AUTOMATIC:
                    continue
                about = description(instruction, name)
                known = found.get(name) or shown.get(name)
                if known is not None:
                    found[name] = known._replace(description=known.description or about)
                    if known.value is None:
                        found[name] = found[name]._replace(value=scope.declared.get(name))
                else:
                    found[name] = Argument(name, scope.declared.get(name), about, instruction.range)
    return sorted(found.values(), key=lambda argument: argument.range)


def _global_arguments(conversion: Conversion) -> dict[str, Argument]:
    found: dict[str, Argument] = {}
    for instruction in conversion.dockerfile.instructions:
        if instruction.name != "arg":
            break
        for name in _declared(instruction):
            value = conversion.declared_globals.get(name)
            found[name] = Argument(name, value, description(instruction, name), instruction.range)
    return found


def _declared(instruction: Instruction) -> list[str]:
    return [args.split(word)[0] for word in instruction.args] if instruction.name == "arg" else []


def _used_by_from(conversion: Conversion, stages: list[Stage]) -> set[str]:
    """Global names that the FROMs use, and that the defaults of these use in turn."""
    escape = conversion.dockerfile.escape
    used: set[str] = set()
    for stage in stages:
        for word in (stage.base, stage.platform):
            used.update(expand.expand(word, conversion.globals, escape).used)
    for instruction in reversed(conversion.dockerfile.instructions):
        if instruction.name == "arg":
            for word in instruction.args:
                name, default = args.split(word)
                if name in used and default:
                    used.update(expand.expand(default, conversion.globals, escape).used)
    return used


def _mounts(conversion: Conversion, kind: str) -> tuple[Wanted, ...]:
    """By id, in the order of the file; required where any place says so."""
    found: dict[str, Wanted] = {}
    for node in conversion.graph.nodes.values():
        for mount in node.op.mounts if isinstance(node.op, Exec) else ():
            if mount.kind == kind:
                place = Range(node.meta.start, node.meta.end)
                first = found.setdefault(mount.id, Wanted(mount.id, mount.required, place))
                place = min(place, first.range)
                found[mount.id] = Wanted(mount.id, first.required or mount.required, place)
    return tuple(sorted(found.values(), key=lambda wanted: wanted.range))
