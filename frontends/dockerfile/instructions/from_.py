"""FROM: where a stage begins: nothing, an image, a named context, or an earlier stage."""

from __future__ import annotations

from buildkit_py.digest import Digest
from buildkit_py.frontends.dockerfile import args, platform
from buildkit_py.frontends.dockerfile.args import Scope
from buildkit_py.frontends.dockerfile.ast import Instruction, Stage
from buildkit_py.frontends.dockerfile.instructions import handler
from buildkit_py.frontends.dockerfile.options import context_image
from buildkit_py.frontends.dockerfile.platform import Platform
from buildkit_py.frontends.dockerfile.stage import STEPS, StageState
from buildkit_py.llb.graph import Meta
from buildkit_py.llb.ops import Copy, File
from buildkit_py.oci import defaults
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.conversion import Conversion

_LEGACY = ("container", "container_config", "docker_version", "id", "parent", "rootfs", "throwaway")
"""Top-level fields of old configs that tell how the base itself was made, and what is added later."""
_CACHES = ("buildkit-py.cache.v1", "moby.buildkit.cache.v0")
"""Inline caches: of the base, not of what is built on it."""


def begin(conversion: Conversion, stage: Stage) -> StageState:
    """The state after FROM and after the ONBUILD triggers of the base."""
    instruction = stage.instructions[0]
    wanted = stage_platform(conversion, stage)
    if conversion.is_replaced(stage):
        return _from_outside(conversion, stage, stage.name, wanted)
    base = conversion.expand_global(instruction, stage.base)
    if not base:
        raise conversion.fail(
            instruction.range,
            f"the base name {stage.base} is empty",
            hint="only an ARG before the first FROM, with a default or a --build-arg, can be used here",
            word=stage.base,
        )
    parent = conversion.find_name(base, before=stage.index)
    if parent is not None and conversion.named_context(base) is None:
        return _from_stage(conversion, stage, parent)
    if base == "scratch" and conversion.named_context(base) is None:
        return _from_scratch(conversion, stage, wanted)
    return _from_outside(conversion, stage, base, wanted)


def stage_platform(conversion: Conversion, stage: Stage) -> Platform:
    if not stage.platform:
        return conversion.target_platform
    instruction = stage.instructions[0]
    text = conversion.expand_global(instruction, stage.platform)
    if not text:
        raise conversion.fail(
            instruction.range,
            f"the platform {stage.platform} is empty",
            hint="only automatic ARGs and ARGs before the first FROM can be used here",
            word=f"--platform={stage.platform}",
        )
    try:
        return platform.parse(text)
    except ValueError as error:
        word = f"--platform={stage.platform}"
        raise conversion.fail(instruction.range, f"--platform: {error}", word=word) from None


def _from_scratch(conversion: Conversion, stage: Stage, wanted: Platform) -> StageState:
    config = {"Env": [f"PATH={defaults.PATH}"], "WorkingDir": "/"}
    document: dict[str, Any] = {"config": config, "history": []}
    scope = Scope({"PATH": defaults.PATH}, {})
    state = StageState(conversion, stage, root=None, document=document, scope=scope, platform=wanted)
    _finish(state, image=False)
    return state


def _from_stage(conversion: Conversion, stage: Stage, parent: Stage) -> StageState:
    base = conversion.state(parent, stage.instructions[0])
    state = StageState(
        conversion,
        stage,
        root=base.root,
        # Entries of the history never change, nor do lists and objects of the config but for Env, so that a
        # long chain of stages can share them.
        document={
            **base.document,
            "config": dict(base.config),
            "history": list(base.document["history"]),
        },
        scope=base.scope.child(),
        platform=base.platform,
    )
    state.own_workdir = base.own_workdir
    if base.places is not None:
        state.places = dict(base.places)
        state.config["Env"] = list(base.config["Env"])
    _finish(state, image=False)
    return state


def _from_outside(conversion: Conversion, stage: Stage, base: str, wanted: Platform) -> StageState:
    """An image, or what a named context has put in its place."""
    instruction = stage.instructions[0]
    context = conversion.named_context(base)
    ref = base if context is None else context_image(context[1])
    if ref is None:
        assert context is not None
        return _from_directory(conversion, stage, context[0], wanted)
    found = conversion.image(ref, wanted, instruction)
    document = {k: v for k, v in _copy(found.config).items() if k not in _LEGACY + _CACHES}
    if not isinstance(document.get("config"), dict):
        document["config"] = {}
    if not isinstance(document.get("history"), list):
        document["history"] = []
    actual = platform.of_config(document) or wanted
    state = StageState(
        conversion,
        stage,
        root=None,
        document=document,
        scope=Scope(_environment(document["config"]), {}),
        platform=actual,
    )
    _finish(
        state,
        image=True,
        source=lambda: conversion.image_node(found, wanted, _step(state, f"FROM {found.ref}")),
    )
    if actual != wanted:
        conversion.note("base-platform", instruction, found.ref, str(wanted), str(actual))
    return state


def _from_directory(conversion: Conversion, stage: Stage, name: str, wanted: Platform) -> StageState:
    """A directory as base: its files, on nothing."""
    state = _from_scratch(conversion, stage, wanted)
    op = File((Copy(0, ("/",), "/", keep_owner=True),), base=False)
    instruction = stage.instructions[0]
    meta = state.meta(instruction, f"[{name}] FROM {name}")
    state.root = state.add(op, (conversion.local(name),), meta)
    state.commit(f"FROM {name}", layer=True)
    return state


def _finish(state: StageState, *, image: bool, source: Any = None) -> None:
    """Count the steps, add the source's node, fill in the platform, fire the triggers."""
    document = state.document
    replaced = state.conversion.is_replaced(state.stage)
    triggers = () if replaced else _take_triggers(state)
    instructions = () if replaced else (*triggers, *state.stage.instructions[1:])
    state.total = image + sum(i.name in STEPS for i in instructions)
    if source is not None:
        root: Digest = source()
        state.root = root
    document["created"] = state.conversion.created
    if not (document.get("architecture") and document.get("os")):
        document["architecture"], document["os"] = state.platform.arch, state.platform.os
        if state.platform.variant:
            document["variant"] = state.platform.variant
    if triggers:
        for trigger in triggers:
            handler(trigger.name)(state, trigger)


def _step(state: StageState, text: str) -> Meta:
    """An image is what its digest says, and other stages may stand on it that use the cache."""
    return state.step(state.stage.instructions[0], text)._replace(no_cache=False)


def _take_triggers(state: StageState) -> tuple[Instruction, ...]:
    """The ONBUILD triggers of the base, which its child doesn't inherit."""
    triggers = state.config.pop("OnBuild", None)
    if not triggers:
        return ()
    from buildkit_py.frontends.dockerfile.instructions import onbuild

    return onbuild.parse_triggers(state.conversion, state.stage.instructions[0], triggers)


def _environment(config: dict[str, Any]) -> dict[str, str]:
    """The base image's variables; PATH is there in any case."""
    values: dict[str, str] = {}
    for item in config.get("Env") or ():
        name, value = args.split(str(item))
        values[name] = value or ""
    values.setdefault("PATH", defaults.PATH)
    return values


def _copy(value: Any) -> Any:
    """A deep copy of a JSON document."""
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value
