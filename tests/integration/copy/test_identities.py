"""COPY, ADD and WORKDIR make the same layer for root, a user with subordinate ids and one without."""

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
    place = someone.own(Path(tempfile.mkdtemp(prefix=f"copy-{kind}-", dir=workshop)))
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


def test_every_identity_copies_alike(workshop: Path) -> None:
    results = {kind: run(kind, workshop) for kind in KINDS}
    for kind, result in results.items():
        assert result.pop("mode") == kind
        assert result["before as after"]
        assert result["kernel agrees"]
    tree = {path: (mode, uid, gid, rdev) for path, mode, uid, gid, rdev, _, _ in results["root"]["tree"]}
    assert tree["app/src/a"] == ("0o100644", 0, 0, 0)
    assert tree["app/setuid"] == ("0o104711", 0, 0, 0)
    assert tree["srv"] == ("0o42770", 7, 8, 0)
    assert tree["srv/lib"] == ("0o40755", 1000, 50, 0)
    assert tree["out/sub/own"] == ("0o104755", 1000, 50, 0)
    assert tree["out/link"][1:3] == (1000, 50)
    assert tree["out/null"] == ("0o20666", 0, 0, os.makedev(1, 3))
    assert tree["usr/bin/tool"] == ("0o100755", 3, 4, 0)
    assert tree["unpacked/a"] == ("0o104755", 77, 77, 0)
    assert tree["unpacked/c"] == ("0o24755", 0, 0, os.makedev(1, 5))
    assert tree["srv/dir"] == ("0o40755", 1000, 50, 0)
    assert results["ids"] == results["root"]
    assert results["single"] == results["root"]
