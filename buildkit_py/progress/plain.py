"""The renderer for logs: blocks of lines that start with ``#N``, in the form known from BuildKit.

    #5 [2/4] RUN make
    #5 0.123 cc -c main.c
    #5 DONE 0.3s

A vertex gets its number when it is first shown. Steps that run at the same time take turns: one has
the floor until it completes, falls silent or has held it for long while others wait; ``#5 ...`` marks
that it will go on. No line is held back for more than a second: a log that stops must show why.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock  # what threading.Lock is, without importing threading
from collections.abc import Callable

from buildkit_py.progress.events import CANCELED, Event, LogEvent, StatusEvent, VertexEvent, WarningEvent
from buildkit_py.progress.text import LogLines, clean, duration, offset, size
from buildkit_py.typed import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from buildkit_py.progress.ticker import Ticker

HOLD = 5.0
"""Seconds after which a talking step gives the floor to one that waits."""
SILENCE = 0.3
"""Seconds of silence after which a step has lost the floor."""
STATUS_EVERY = 1.0
"""Seconds between two lines about the same layer."""
OVERWRITTEN_EVERY = 5.0
"""Seconds between two states of a progress bar that never ends its line."""


class _Vertex:
    __slots__ = (
        "closed", "event", "number", "queue", "spoke", "statuses", "streams",
    )  # fmt: skip

    def __init__(self, event: VertexEvent) -> None:
        self.event = event
        self.number = 0
        self.closed = False
        """DONE, CACHED or ERROR has been printed."""
        self.queue: list[Event] = []
        """Waiting for the floor."""
        self.streams: dict[int, LogLines] = {}
        self.statuses: dict[str, float] = {}
        """When a line about each status was last printed."""
        self.spoke = 0.0
        """When a log line was last printed."""


class Plain:
    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._clock = clock
        self._colour = not os.environ.get("NO_COLOR")
        self._lock = allocate_lock()
        self._vertices: dict[str, _Vertex] = {}
        self._numbers = 0
        self._floor: _Vertex | None = None
        self._since = 0.0
        self._active = 0.0
        self._waiting: list[_Vertex] = []
        self._out: list[str] = []
        self._flusher: Ticker | None = None
        self._closed = False

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._closed:
                return
            if isinstance(event, WarningEvent) and event.vertex not in self._vertices:
                # Of the Dockerfile as a whole: the command sums those up at the end.
                return
            self._take(self._vertex(event), event)
            self._write()

    def close(self) -> None:
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.stop()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            while self._waiting:
                self._give_floor(self._waiting[0])
            if self._floor is not None:
                self._end_logs(self._floor)
            self._write()

    def _vertex(self, event: Event) -> _Vertex:
        digest = event.digest if isinstance(event, VertexEvent) else event.vertex
        vertex = self._vertices.get(digest)
        if vertex is None:
            name = digest if not isinstance(event, VertexEvent) else event.name
            vertex = self._vertices[digest] = _Vertex(VertexEvent(digest, name))
        if isinstance(event, VertexEvent):
            vertex.event = event
        return vertex

    # Who may speak

    def _take(self, vertex: _Vertex, event: Event) -> None:
        if isinstance(event, VertexEvent) and event.started is None and not event.cached and not event.error:
            return
        floor = self._floor
        if vertex is floor or floor is None or self._may_interrupt():
            if vertex is not floor:
                self._give_floor(vertex)
            self._show(vertex, event)
            if vertex.closed and self._waiting:
                self._give_floor(self._waiting[0])
            return
        if vertex not in self._waiting:
            self._waiting.append(vertex)
        vertex.queue.append(event)
        self._start_flusher()

    def _may_interrupt(self) -> bool:
        now = self._clock()
        assert self._floor is not None
        return self._floor.closed or now - self._active > SILENCE or now - self._since > HOLD

    def _give_floor(self, vertex: _Vertex) -> None:
        floor = self._floor
        if floor is not None:
            if not floor.closed:
                self._out.append(f"#{floor.number} ...\n")
            self._out.append("\n")
        self._floor = vertex
        self._since = self._active = self._clock()
        if not vertex.number:
            self._numbers += 1
            vertex.number = self._numbers
        self._out.append(f"#{vertex.number} {clean(vertex.event.name)}\n")
        if vertex in self._waiting:
            self._waiting.remove(vertex)
        queue, vertex.queue = vertex.queue, []
        for event in queue:
            self._show(vertex, event)
        if vertex.closed and self._waiting:
            self._give_floor(self._waiting[0])

    def _start_flusher(self) -> None:
        """Only where steps really compete: then threads are running anyway."""
        from buildkit_py.progress.ticker import Ticker

        if self._flusher is None or self._flusher.stopped:
            self._flusher = Ticker(self._flush, delay=SILENCE, interval=SILENCE)
            self._flusher.start()

    def _flush(self) -> bool:
        with self._lock:
            if self._waiting and self._may_interrupt():
                self._give_floor(self._waiting[0])
                self._write()
            return bool(self._waiting) and not self._closed

    # What is said

    def _show(self, vertex: _Vertex, event: Event) -> None:
        self._active = self._clock()
        if isinstance(event, VertexEvent):
            self._show_vertex(vertex, event)
        elif isinstance(event, LogEvent):
            self._show_log(vertex, event)
        elif isinstance(event, StatusEvent):
            self._show_status(vertex, event)
        elif isinstance(event, WarningEvent):
            self._out.append(f"#{vertex.number} WARN: {clean(event.message)}\n")

    def _show_vertex(self, vertex: _Vertex, event: VertexEvent) -> None:
        if vertex.closed:
            return
        if event.error:
            self._end_logs(vertex)
            text = "CANCELED" if event.error in CANCELED else "ERROR: " + clean(event.error)
        elif event.cached:
            text = "CACHED"
        elif event.completed is not None:
            self._end_logs(vertex)
            text = "DONE " + duration(event.completed - (event.started or event.completed))
        else:
            return
        vertex.closed = True
        self._out.append(f"#{vertex.number} {text}\n")

    def _show_log(self, vertex: _Vertex, event: LogEvent) -> None:
        lines = vertex.streams.get(event.stream)
        if lines is None:
            lines = vertex.streams[event.stream] = LogLines()
        complete = lines.feed(event.data)
        if not complete and "\r" in lines.partial and event.time - vertex.spoke > OVERWRITTEN_EVERY:
            complete = [lines.partial]
        self._log(vertex, complete, event.time)

    def _log(self, vertex: _Vertex, lines: list[str], when: float) -> None:
        if not lines:
            return
        vertex.spoke = when
        since = offset(when - (vertex.event.started or when))
        for line in lines:
            self._out.append(f"#{vertex.number} {since} {clean(line, colour=self._colour)}\n")

    def _end_logs(self, vertex: _Vertex) -> None:
        for lines in vertex.streams.values():
            self._log(vertex, lines.end(), vertex.event.completed or self._clock())

    def _show_status(self, vertex: _Vertex, event: StatusEvent) -> None:
        now = self._clock()
        if event.completed is None and now - vertex.statuses.get(event.id, -STATUS_EVERY) < STATUS_EVERY:
            return
        vertex.statuses[event.id] = now
        parts = [f"#{vertex.number}", clean(event.id)]
        if event.total:
            parts.append(f"{size(event.current)} / {size(event.total)}")
        elif event.current:
            parts.append(size(event.current))
        if event.started is not None:
            spent = (event.completed if event.completed is not None else now) - event.started
            if spent >= 0.05:
                parts.append(duration(spent))
        if event.completed is not None:
            parts.append("done")
        self._out.append(" ".join(parts) + "\n")

    def _write(self) -> None:
        if self._out:
            text = "".join(self._out)
            self._out.clear()
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody reads any more; that is no reason to fail the build.
                self._closed = True
