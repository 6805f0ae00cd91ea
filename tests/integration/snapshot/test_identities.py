"""Root, a user with subordinate ids and a user without them make the same layers, to the last byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.snapshot.removal import remove_tree
from tests.support.people import KINDS, person
from tests.support.program import program

SCENARIO = Path(__file__).with_name("scenario.py")

pytestmark = [pytest.mark.needs("overlay"), pytest.mark.needs("user-namespaces"), pytest.mark.needs("root")]


def run(kind: str, workshop: Path) -> dict[str, Any]:
    someone = person(kind)
    found = program(someone)
    interpreter = found.argv[0] if found.argv[1:] else os.path.realpath(sys.executable)
    if not found.argv[1:]:
        # The console script: its interpreter stands beside it.
        interpreter = str(Path(found.argv[0]).with_name("python"))
    place = someone.own(Path(tempfile.mkdtemp(prefix=f"scenario-{kind}-", dir=workshop)))
    try:
        done = subprocess.run(
            [interpreter, "-c", SCENARIO.read_text(), str(place)],
            cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": str(place), **found.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **someone.popen(),
        )
        assert done.returncode == 0, done.stdout
        result: dict[str, Any] = json.loads(done.stdout)
        return result
    finally:
        remove_tree(str(place))


def test_every_identity_makes_the_same_layers(workshop: Path) -> None:
    results = {kind: run(kind, workshop) for kind in KINDS}
    for kind, result in results.items():
        assert result.pop("mode") == kind
        assert result["agrees with the kernel"]
        assert result["after the copy"]
        assert result["left"] == []
        # The step's layer is the same whether it ran on overlayfs or on a copy.
        assert result["digests"][2] == result["digests"][3]
    assert results["ids"] == results["root"]
    assert results["single"] == results["root"]
