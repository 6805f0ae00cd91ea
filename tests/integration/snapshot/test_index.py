"""The store's index beside user namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from buildkit_py.snapshot.removal import remove_tree
from tests.support.people import KINDS, person
from tests.support.program import program

pytestmark = [pytest.mark.needs("user-namespaces"), pytest.mark.needs("root")]

DRIVER = """
import json, os, sys
from buildkit_py.engine import Engine
engine = Engine(sys.argv[1])
engine.begin()
engine.db.ensure("CREATE TABLE IF NOT EXISTS t (a)")
mapped = open("/proc/self/uid_map").read() != ""
found = [name for name in os.listdir(engine.root) if name.startswith("index")]
owners = {name: os.stat(f"{engine.root}/{name}").st_uid for name in found}
engine.close()
print(json.dumps([mapped, owners]))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_opened_as_who_will_own_it(kind: str, workshop: Path) -> None:
    """While ids are being mapped, its files would be given to who "nobody" is afterwards."""
    someone = person(kind)
    found = program(someone)
    interpreter = found.argv[0] if found.argv[1:] else str(Path(os.path.realpath(sys.executable)))
    if not found.argv[1:]:
        interpreter = str(Path(found.argv[0]).with_name("python"))
    place = someone.own(Path(tempfile.mkdtemp(prefix=f"index-{kind}-", dir=workshop)))
    # One that takes its time, in the place of the system's.
    slow = place / "newuidmap"
    slow.write_text('#!/bin/sh\nsleep 0.2\nexec /usr/bin/newuidmap "$@"\n')
    slow.chmod(0o755)
    try:
        done = subprocess.run(
            [interpreter, "-c", DRIVER, str(place)],
            cwd="/",
            env={"PATH": f"{place}:/usr/bin:/bin", "HOME": str(place), **found.environment},
            capture_output=True,
            text=True,
            **someone.popen(),
        )
        assert done.returncode == 0, done.stderr
        mapped, owners = json.loads(done.stdout)
        assert mapped is True
        assert owners == {"index.db": 0, "index.db-wal": 0, "index.db-shm": 0}
    finally:
        remove_tree(str(place))
