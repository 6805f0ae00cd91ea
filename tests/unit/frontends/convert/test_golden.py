"""Golden folders: tests/fixtures/convert/<case>/ with Dockerfile, options.json (may be missing) and
expected.json. ``PYBUILD_WRITE_GOLDEN=1`` writes the expectations anew; read the difference before
you commit it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.errors import DockerfileError
from tests.unit.frontends.convert.building import Builder, Built

CASES = sorted(p.parent for p in (Path(__file__).parents[3] / "fixtures" / "convert").glob("*/Dockerfile"))


def _plain(value: Any) -> Any:
    """NamedTuples as objects that hold only what differs from the defaults."""
    if hasattr(value, "_fields"):
        defaults = value._field_defaults
        fields = {k: getattr(value, k) for k in value._fields}
        kept = {k: _plain(v) for k, v in fields.items() if k not in defaults or v != defaults[k]}
        return {type(value).__name__: kept}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def _described(built: Built) -> dict[str, Any]:
    numbers = {node.digest: number for number, node in enumerate(built.nodes)}
    nodes = []
    for number, node in enumerate(built.nodes):
        op = _plain(node.op)
        op.get("ImageSource", {}).pop("digest", None)
        entry = {"node": number, "name": node.meta.name, "lines": [node.meta.start, node.meta.end], "op": op}
        entry["inputs"] = [numbers[i] for i in node.inputs]
        if node.meta.secret_env:
            entry["secret_env"] = list(node.meta.secret_env)
        nodes.append(entry)
    root = None if built.target.root is None else numbers[built.target.root]
    warnings = [[w.rule, w.start, w.message] for w in built.result.warnings]
    return {"nodes": nodes, "root": root, "config": built.document, "warnings": warnings}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_golden(build: Builder, case: Path) -> None:
    options = json.loads((case / "options.json").read_text()) if (case / "options.json").exists() else {}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    try:
        found = _described(build((case / "Dockerfile").read_bytes(), **options))
    except DockerfileError as error:
        found = {"error": error.message, "hint": error.hint, "lines": [error.start, error.end]}
    expected = case / "expected.json"
    if os.environ.get("PYBUILD_WRITE_GOLDEN"):
        expected.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert json.loads(json.dumps(found)) == json.loads(expected.read_text())


def test_there_are_cases() -> None:
    assert len(CASES) > 10
