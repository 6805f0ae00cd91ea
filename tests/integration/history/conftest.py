"""Servers on loopback that the program fetches from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.web import Repository, Web


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "repositories").mkdir()
    with Web(tmp_path / "repositories") as web:
        yield web


@pytest.fixture
def repository(web: Web) -> Repository:
    assert web.repositories is not None
    return Repository(web.repositories / "a.git")
