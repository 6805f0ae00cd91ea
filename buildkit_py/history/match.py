"""Which step of an earlier build is the same step, though its text, place or number may have changed."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.history.record import Step


def equal(new: Sequence[Step], old: Sequence[Step]) -> dict[str, Step]:
    """As matches(), for builds of different Dockerfiles: only what has the same text is the same step."""
    texts = {step.digest: _text(step) for step in new}
    return {digest: step for digest, step in matches(new, old).items() if texts[digest] == _text(step)}


def matches(new: Sequence[Step], old: Sequence[Step]) -> dict[str, Step]:
    """For steps of a build the step of an earlier one that they continue, by digest.

    In each stage the instructions are aligned as lines of a text are: equal ones belong together, and where
    some were replaced, those with the same keyword in their order. What is left is looked for in other
    stages by its whole text.
    """
    found: dict[str, Step] = {}
    stages = _by_stage(old)
    for stage, steps in _by_stage(new).items():
        found.update(_aligned(steps, stages.get(stage, [])))
    taken = {step.digest for step in found.values()}
    left: dict[str, list[Step]] = {}
    for step in old:
        if step.digest not in taken:
            left.setdefault(_text(step), []).append(step)
    for step in new:
        others = left.get(_text(step))
        if step.digest not in found and others:
            found[step.digest] = others.pop(0)
    return found


def _aligned(new: list[Step], old: list[Step]) -> dict[str, Step]:
    from difflib import SequenceMatcher

    found: dict[str, Step] = {}
    texts = [_text(s) for s in old], [_text(s) for s in new]
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, *texts, autojunk=False).get_opcodes():
        if kind == "equal":
            found.update((n.digest, o) for n, o in zip(new[j1:j2], old[i1:i2], strict=True))
        elif kind == "replace":
            rest = old[i1:i2]
            for step in new[j1:j2]:
                same = next((o for o in rest if _keyword(o) == _keyword(step)), None)
                if same is not None:
                    found[step.digest] = same
                    rest = rest[rest.index(same) + 1 :]
    return found


def _by_stage(steps: Sequence[Step]) -> dict[str, list[Step]]:
    stages: dict[str, list[Step]] = {}
    for step in steps:
        stages.setdefault(label(step), []).append(step)
    return stages


def label(step: Step) -> str:
    """A step's stage and platform: ``[linux/arm64 build 2/4] RUN make`` is one of ``linux/arm64 build``."""
    if not step.name.startswith("["):
        return step.stage
    head = step.name[1:].partition("]")[0]
    stage, _, number = head.rpartition(" ")
    return stage if "/" in number and number.replace("/", "").isdecimal() else head


def _text(step: Step) -> str:
    """What tells one instruction from another; of a base image its name, whatever it means now."""
    if step.op == "ImageSource":
        return "FROM " + step.image.partition("@")[0]
    return step.text


def _keyword(step: Step) -> str:
    return _text(step).partition(" ")[0]
