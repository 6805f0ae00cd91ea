"""A build as an HTML page."""

from __future__ import annotations

import os

from buildkit_py.history.report import HEAD, TAIL, Log, page
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.history.record import Build, Step


def report(engine: Engine, build: Build) -> bytes:
    def read_log(step: Step) -> Log | None:
        path = engine.history.log(build, step)
        if path is None:
            return None
        with open(path, "rb") as log:
            size = os.fstat(log.fileno()).st_size
            if size <= HEAD + TAIL:
                return Log(log.read())
            head = log.read(HEAD)
            log.seek(size - TAIL)
            return Log(head, size - HEAD - TAIL, log.read(TAIL))

    return page(build, engine.why(build), read_log)
