"""A store for the tests of what the engine does with one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    engine = Store(str(tmp_path))
    engine.enter()
    yield engine
    engine.snapshots.close()
    engine.close()
    engine.db.close()
