"""The renderer for programs: each event as one line, in the JSON of BuildKit's SolveStatus.

Four lists, each left out when empty: vertexes, statuses, logs, warnings. Times are RFC 3339
in UTC, log data and warning texts base64, as Go's encoding/json writes byte slices.
"""

from __future__ import annotations

import json
import threading
import time
from binascii import b2a_base64
from collections.abc import Callable

from buildkit_py.digest import of_bytes
from buildkit_py.progress.events import Event, LogEvent, StatusEvent, VertexEvent, WarningEvent
from buildkit_py.typed import TextIO

Fields = dict[str, object]


class RawJson:
    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        kind, fields = document(event, self._clock())
        line = json.dumps({kind: [fields]}, separators=(",", ":")) + "\n"
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody reads any more; that is no reason to fail the build.
                pass

    def close(self) -> None:
        pass


def document(event: Event, now: float) -> tuple[str, Fields]:
    """The name of the list that an event belongs to, and its fields; empty ones are left out."""
    if isinstance(event, VertexEvent):
        return "vertexes", _filled(
            digest=_digest(event.digest),
            inputs=[_digest(each) for each in event.inputs],
            name=event.name,
            started=timestamp(event.started),
            completed=timestamp(event.completed),
            cached=event.cached,
            error=event.error,
        )
    if isinstance(event, StatusEvent):
        fields = {"id": event.id} | _filled(vertex=_digest(event.vertex), total=event.total)
        fields["current"] = event.current
        times = _filled(started=timestamp(event.started), completed=timestamp(event.completed))
        return "statuses", fields | {"timestamp": timestamp(now)} | times
    if isinstance(event, LogEvent):
        return "logs", {
            "vertex": _digest(event.vertex),
            "stream": event.stream,
            "data": _base64(event.data),
            "timestamp": timestamp(event.time),
        }
    return "warnings", _warning(event)


def _warning(event: WarningEvent) -> Fields:
    short = f"{event.rule}: {event.message}" if event.rule else event.message
    place = {"start": {"line": event.start}, "end": {"line": event.end or event.start}}
    return _filled(
        vertex=_digest(event.vertex),
        level=1,
        short=_base64(short.encode("utf-8", "replace")),
        url=event.url,
        sourceInfo={"filename": event.path} if event.path else None,
        range=[place] if event.start else None,
    )


def _digest(vertex: str) -> str:
    """A vertex that is no node of the graph has a name of its own; readers expect a digest."""
    return vertex if not vertex or vertex.startswith("sha256:") else of_bytes(vertex.encode())


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, no trailing zeros, as Go writes its time.Time.

    Nanoseconds are asked for; a float of this century holds no more than microseconds.
    """
    if seconds is None:
        return None
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    fraction = f".{micros:06d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + fraction + "Z"


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _filled(**fields: object) -> Fields:
    return {name: value for name, value in fields.items() if value}
