from __future__ import annotations

import pytest

from tests.unit.frontends.convert.building import Builder


@pytest.fixture
def build() -> Builder:
    return Builder()
