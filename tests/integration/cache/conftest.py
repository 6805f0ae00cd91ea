"""A registry that says what it was asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cache.machines import Machines
from tests.support.objects import Objects
from tests.support.registry import Registry
from tests.support.runner import Pybuild

_LINE = re.compile(r'"(?P<method>[A-Z]+) /v2/(?P<path>\S*) HTTP/1\.1" (?P<status>\d+)')


class CountingRegistry(Registry):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = self.config.read_text()
        self.config.write_text(text.replace("accesslog: {disabled: true}", "accesslog: {disabled: false}"))
        self._seen = 0

    def requests(self) -> list[str]:
        """``METHOD path`` of what succeeded since this was last asked, in no certain order."""
        lines = (self.folder / "log").read_text().splitlines()
        new, self._seen = lines[self._seen :], len(lines)
        found = (_LINE.search(line) for line in new)
        return [f"{m['method']} {m['path']}" for m in found if m and m["status"] < "400"]


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[CountingRegistry]:
    registry = CountingRegistry(tmp_path / "counting")
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture
def machines(pybuild: Pybuild) -> Machines:
    return Machines(pybuild)


@pytest.fixture(scope="session")
def objects(workshop: Path) -> Iterator[Objects]:
    """An S3 service with the bucket ``caches``; each test takes a prefix of its own."""
    service = Objects(workshop / "objects")
    service.start()
    yield service
    service.stop()
