"""Why the steps of a build ran."""

from __future__ import annotations

from buildkit_py.history import why
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.history.record import Build


def explain(engine: Engine, build: Build) -> list[why.Explanation]:
    _ = engine.index  # makes the tables where no build has yet
    return why.explain(build, engine.history, engine.inputs)
