"""``sandbox``: real sandboxes as each kind of user, by driver.py in a process of that user."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.people import Person, person
from tests.support.program import program
from tests.support.removal import remove

DRIVER = Path(__file__).with_name("driver.py")


class Result:
    """What came of one sandbox (driver.py)."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.status: int | None = fields["status"]
        self.out: str = fields["out"]
        self.err: str = fields["err"]
        self.error: dict[str, Any] | None = fields["error"]
        self.upper: dict[str, list[Any]] = fields["upper"]
        self.owners: dict[str, list[int]] = fields["owners"]
        self.marked: bool = fields["marked"]
        self.beside: list[str] = fields["beside"]
        self.pid: int = fields["pid"]
        self.seconds: float = fields["seconds"]


class Sandboxes:
    def __init__(self, person: Person, folder: Path) -> None:
        self.person = person
        self.folder = folder
        self.descriptors = 0
        self.mode = ""

    def start(self, request: dict[str, Any]) -> subprocess.Popen[str]:
        found = program(self.person)
        interpreter = found.argv[0] if len(found.argv) > 1 else sys.executable
        process = subprocess.Popen(
            [interpreter, "-c", DRIVER.read_text()],
            cwd="/",
            env={"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(self.folder), **found.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **self.person.popen(),
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"folder": str(self.folder), **request}))
        process.stdin.close()
        process.stdin = None
        return process

    def many(self, specs: list[dict[str, Any]], *, together: bool = False, **more: Any) -> list[Result]:
        """Run specs (SandboxSpec's fields; ``options`` for the driver) one by one, or all at once."""
        pairs = [
            ({k: v for k, v in spec.items() if k != "options"}, spec.get("options", {})) for spec in specs
        ]
        process = self.start({"specs": pairs, "together": together, **more})
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answer = json.loads(base64.b64decode(out))
        self.descriptors = answer["descriptors"]
        self.mode = answer["mode"]
        return [Result(result) for result in answer["results"]]

    def run(self, *args: str, **fields: Any) -> Result:
        return self.many([{"args": args, **fields}])[0]

    def sh(self, script: str, **fields: Any) -> Result:
        return self.run("sh", "-c", script, **fields)


@pytest.fixture
def make_sandboxes(workshop: Path) -> Iterator[Callable[[str], Sandboxes]]:
    made: list[Path] = []

    def make(kind: str) -> Sandboxes:
        someone = person(kind)
        folder = Path(tempfile.mkdtemp(prefix="sandbox-", dir=workshop))
        made.append(folder)
        return Sandboxes(someone, someone.own(folder))

    yield make
    for folder in made:
        remove(folder)


@pytest.fixture
def sandbox(each_identity: str, make_sandboxes: Callable[[str], Sandboxes]) -> Sandboxes:
    """As every kind of user in turn."""
    return make_sandboxes(each_identity)


@pytest.fixture
def single_sandbox(make_sandboxes: Callable[[str], Sandboxes]) -> Sandboxes:
    """As a user without subordinate ids."""
    return make_sandboxes("single")
