"""Commands that do the same to each of several containers, and go on after one that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from buildkit_py.cli import report
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.runtime.container import Container


def each(
    engine: Engine,
    names: Sequence[str],
    act: Callable[[Container], str | None],
    status: int = 0,
    *,
    absent: int = 1,
) -> int:
    """Print what ``act`` returns, or the name where that is None; the exit status, which is ``absent`` where
    nothing worse happened than that a container is not there."""
    for name in names:
        try:
            line = act(engine.containers.get(name))
            print(name if line is None else line, flush=True)
        except NotFoundError as error:
            report.show(error)
            status = status or absent
        except PybuildError as error:
            report.show(error)
            status = 1
    return status


def together(engine: Engine, names: Sequence[str], begin: Callable[[Container], Callable[[], object]]) -> int:
    """As each(), but all are begun before the first one's end is waited for (by what ``begin`` returns)."""
    status = 0
    begun = []
    for name in names:
        try:
            begun.append((name, begin(engine.containers.get(name))))
        except PybuildError as error:
            report.show(error)
            status = 1
    for name, end in begun:
        try:
            end()
            print(name, flush=True)
        except PybuildError as error:
            report.show(error)
            status = 1
    return status


def with_engine(names: Sequence[str], act: Callable[[Engine, Container], str | None]) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        return each(engine, names, lambda container: act(engine, container))
    finally:
        engine.close()
