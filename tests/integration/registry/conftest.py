from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_py.registry.settings import Settings
from tests.integration.registry.workbench import Workbench
from tests.support.registry import Registry

# user:secret; docker-registry reads bcrypt alone.
HTPASSWD = "user:$2b$04$sx5ICNiE3ZBC.EBgqC1JdupLvQ7ie99dhafeDywdr00vvsaQ..oiu\n"
WorkbenchMaker = Callable[..., Workbench]


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[WorkbenchMaker]:
    """Makes stores, each empty."""
    made: list[Workbench] = []

    def make(settings: Settings | None = None, auth: Path | None = None) -> Workbench:
        bench = Workbench(tmp_path / f"store{len(made)}", settings, auth)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.close()


class GuardedRegistry(Registry):
    """Asks for user:secret."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "htpasswd").write_text(HTPASSWD)
        with self.config.open("a") as config:
            config.write(f'auth: {{htpasswd: {{realm: "here", path: "{folder}/htpasswd"}}}}\n')

    def get(self, path: str) -> bytes:
        import urllib.error

        try:
            return super().get(path)
        except urllib.error.HTTPError as e:
            with e:
                return b""


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Registry]:
    """A registry of the test's own, to be stopped."""
    registry = Registry(tmp_path / "mortal")
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Registry]:
    registry = GuardedRegistry(tmp_path / "guarded")
    registry.start()
    yield registry
    registry.stop()
