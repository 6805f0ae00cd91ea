"""Golden cases of COPY, ADD and WORKDIR: a folder each under tests/fixtures/copy.

``case.json``: ``rule`` says what it shows; ``context``, ``stage`` and ``base`` are trees (see
tests.support.filetree); ``ignore`` the lines of a .dockerignore; ``actions`` what is done: ``copy`` (from
``stage`` where ``from`` says so) with the fields of llb.ops.Copy, or ``mkdir``. ``expect`` is the merged
tree afterwards (with times where ``times``), ``layer`` what the new layer itself holds, ``error`` a part of
the message.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.frontends.dockerfile.dockerignore import Matcher
from buildkit_py.llb.ops import Copy, File, Mkdir
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.tree import Tree
from buildkit_py.worker.file import copy_content_key, run_file_op
from buildkit_py.worker.selection import Selection
from tests.support.filetree import ROOT, Layer, describe, plant

FOLDER = Path(__file__).parents[2] / "fixtures" / "copy"
CASES = sorted(p.parent.name for p in FOLDER.glob("*/case.json"))


def action(spec: dict[str, Any]) -> Copy | Mkdir:
    spec = dict(spec)
    if "mkdir" in spec:
        return Mkdir(spec.pop("mkdir"), **spec)
    stage = spec.pop("from", "") == "stage"
    spec["exclude"] = tuple(spec.get("exclude", ()))
    sources = tuple(spec.pop("copy"))
    return Copy(2 if stage else 1, sources, spec.pop("dest"), keep_owner=stage, **spec)


def carry_out(case: dict[str, Any], tmp_path: Path) -> tuple[LayerTree, LayerTree]:
    """(the new layer on the base, the new layer alone)"""
    base = LayerTree([str(plant(tmp_path / "base" / "fs", case["base"]))]) if "base" in case else None
    stage = LayerTree([str(plant(tmp_path / "stage" / "fs", case.get("stage", ())))])
    matcher = Matcher(tuple(case.get("ignore", ())))
    context = plant(tmp_path / "context", case.get("context", ()))
    tree = DirTree(str(context), exclude=matcher.excluded, may_descend=matcher.may_descend)
    inputs: list[Tree] = [LayerTree(()), tree, stage]
    op = File(tuple(action(spec) for spec in case["actions"]))
    selections: dict[int, Selection] = {}
    for n, one in enumerate(op.actions):
        if isinstance(one, Copy):
            selections[n] = copy_content_key(one, inputs[one.input], None)[1]
    layer = Layer(tmp_path / "new")
    run_file_op(op, base, inputs, selections, layer, ROOT)
    assert not any(selection.changed for selection in selections.values())
    new = layer.save()
    return LayerTree([new, *(base.layers if base else ())]), LayerTree([new])


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path) -> None:
    path = FOLDER / name / "case.json"
    case = json.loads(path.read_text())
    if "error" in case:
        with pytest.raises(PybuildError) as raised:
            carry_out(case, tmp_path)
        assert case["error"] in f"{raised.value.message}\n{raised.value.hint}"
        return
    merged, alone = carry_out(case, tmp_path)
    times = bool(case.get("times"))
    if os.environ.get("PYBUILD_GOLDEN"):  # writes what happens: read it before you keep it
        case["expect"] = describe(merged, times=times)
        if "layer" in case:
            case["layer"] = describe(alone, times=times)
        path.write_text(json.dumps(case, indent=1, ensure_ascii=False) + "\n")
    assert describe(merged, times=times) == case["expect"]
    if "layer" in case:
        assert describe(alone, times=times) == case["layer"]


def test_there_are_cases() -> None:
    assert len(CASES) > 40
