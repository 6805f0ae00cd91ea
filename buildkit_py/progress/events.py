"""The one stream of events that a solve, a pull or a push emits; renderers consume it.

The shape follows BuildKit's SolveStatus, whose JSON form ``--progress=rawjson`` prints.
Times are seconds since the epoch (float).
"""

from __future__ import annotations

from collections.abc import Callable

from buildkit_py.tuples import NamedTuple


class VertexEvent(NamedTuple):
    """The state of a vertex; sent again at each change."""

    digest: str
    name: str
    started: float | None = None
    completed: float | None = None
    cached: bool = False
    error: str = ""
    inputs: tuple[str, ...] = ()


class StatusEvent(NamedTuple):
    """Progress of a part of a vertex (a layer's download, an export)."""

    vertex: str
    id: str
    """Shown as text: ``sha256:1a2b…`` or ``exporting layers``."""
    current: int = 0
    total: int = 0
    """Bytes; 0 where unknown."""
    started: float | None = None
    completed: float | None = None


class LogEvent(NamedTuple):
    vertex: str
    stream: int
    """1: stdout, 2: stderr"""
    data: bytes
    time: float


class WarningEvent(NamedTuple):
    vertex: str
    message: str
    rule: str = ""
    path: str = ""
    start: int = 0
    end: int = 0
    url: str = ""


Event = VertexEvent | StatusEvent | LogEvent | WarningEvent
Emit = Callable[[Event], None]
"""Called from any thread."""


CANCELED = ("canceled", "cancelled", "context canceled")
"""A VertexEvent's ``error`` for a step that was stopped because of another's failure or Ctrl-C."""


def told(error: BaseException | None) -> str:
    """What a VertexEvent says of how its step ended: "" for well."""
    if error is None:
        return ""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return CANCELED[0]
    return str(error) or type(error).__name__


def ignore(event: Event) -> None:
    """An Emit for callers that show nothing."""
