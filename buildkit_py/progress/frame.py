"""What the live display shows, as lines of text: pure, from the state of the vertices to a screenful.

[+] Building 3.2s (5/9)
 => [internal] load build definition from Dockerfile                                0.0s
 => CACHED [2/4] WORKDIR /app                                                       0.0s
 => [1/4] FROM docker.io/library/debian:12                                          2.1s
 => => sha256:1a2b3c4d5e6f                                      10.49MB / 54.94MB   1.2s
 => [3/4] RUN make                                                                  1.1s
 => => # cc -c main.c
"""

from __future__ import annotations

from buildkit_py.progress.events import CANCELED, Event, LogEvent, StatusEvent, VertexEvent, WarningEvent
from buildkit_py.progress.text import LogLines, clean, duration, layer, size
from buildkit_py.tuples import NamedTuple

LOG_LINES = 6
"""Last log lines shown of each running step."""


class Row(NamedTuple):
    """One line: ``left`` is cut where the line is too narrow, ``right`` stands at its end."""

    left: str
    right: str = ""
    style: str = ""
    """An SGR parameter: ``34`` for blue; "" for none."""


class Step:
    """A vertex as it stands on the screen."""

    __slots__ = ("event", "lines", "statuses", "streams")

    def __init__(self, event: VertexEvent) -> None:
        self.event = event
        self.statuses: dict[str, StatusEvent] = {}
        self.streams: dict[int, LogLines] = {}
        self.lines: list[str] = []

    @property
    def running(self) -> bool:
        event = self.event
        return event.started is not None and event.completed is None and not event.cached and not event.error

    @property
    def shown(self) -> bool:
        event = self.event
        return event.started is not None or event.cached or bool(event.error)

    def log(self, event: LogEvent) -> None:
        stream = self.streams.get(event.stream)
        if stream is None:
            stream = self.streams[event.stream] = LogLines()
        self.lines += stream.feed(event.data)
        del self.lines[:-LOG_LINES]

    def last_lines(self) -> list[str]:
        partial = [s.partial.rstrip("\r") for s in self.streams.values()]
        return [*self.lines, *(p for p in partial if p.strip())][-LOG_LINES:]


class Board:
    """The state of all vertices, in the order in which they were first seen to run."""

    def __init__(self) -> None:
        self._known: dict[str, Step] = {}
        self.steps: list[Step] = []
        self.began: float | None = None
        self.warnings = 0

    def take(self, event: Event, now: float) -> None:
        if self.began is None:
            self.began = now
        if isinstance(event, WarningEvent):
            self.warnings += 1
            return
        digest = event.digest if isinstance(event, VertexEvent) else event.vertex
        step = self._known.get(digest)
        if step is None:
            step = self._known[digest] = Step(
                event if isinstance(event, VertexEvent) else VertexEvent(digest, digest)
            )
        if isinstance(event, VertexEvent):
            step.event = event
            if step.shown and step not in self.steps:
                self.steps.append(step)
        elif isinstance(event, StatusEvent):
            step.statuses[event.id] = event
        else:
            step.log(event)

    @property
    def running(self) -> bool:
        return any(step.running for step in self.steps)

    def rows(self, now: float, *, height: int = 0, finished: bool = False) -> list[Row]:
        """The screenful. With ``height``, no more rows than that: old, completed steps go first."""
        blocks = [_block(step, now, finished) for step in self.steps]
        if height:
            blocks = _fit(self.steps, blocks, max(height - 1, 1))
        return [self._header(now, finished), *(row for block in blocks for row in block)]

    def _header(self, now: float, finished: bool) -> Row:
        done = sum(not step.running for step in self.steps)
        spent = duration(now - (self.began if self.began is not None else now))
        failed = any(step.event.error for step in self.steps)
        state = "" if not finished else " FAILED" if failed else " FINISHED"
        return Row(f"[+] Building {spent} ({done}/{len(self._known)}){state}")


def _block(step: Step, now: float, finished: bool) -> list[Row]:
    event = step.event
    name = clean(event.name)
    spent = 0.0
    if event.started is not None and not event.cached:
        spent = (event.completed if event.completed is not None else now) - event.started
    right = duration(spent)
    if event.error in CANCELED:
        return [Row(f" => CANCELED {name}", right, "33")]
    if event.error:
        return [Row(f" => ERROR {name}", right, "31")]
    if event.cached:
        return [Row(f" => CACHED {name}", right, "34")]
    rows = [Row(f" => {name}", right, "" if step.running else "34")]
    if step.running or finished:
        rows += [_status(status, now) for status in step.statuses.values()]
    if step.running and not finished:
        rows += [Row(f" => => # {clean(line)}", style="2") for line in step.last_lines()]
    return rows


def _status(status: StatusEvent, now: float) -> Row:
    right = ""
    if status.total:
        right = f"{size(status.current)} / {size(status.total)}"
    elif status.current:
        right = size(status.current)
    if status.started is not None:
        spent = (status.completed if status.completed is not None else now) - status.started
        right = f"{right}  {duration(spent):>6}" if right else duration(spent)
    return Row(f" => => {clean(layer(status.id))}", right, "" if status.completed is None else "34")


def _fit(steps: list[Step], blocks: list[list[Row]], height: int) -> list[list[Row]]:
    """As many blocks as fit: all running ones, cut if need be, then the completed ones seen last."""
    running = [index for index, step in enumerate(steps) if step.running]
    details = max((height - len(running)) // max(len(running), 1), 0)
    cut = dict.fromkeys(running[:height], details)
    room = height - sum(min(len(blocks[index]), 1 + details) for index in cut)
    kept = {index: [blocks[index][0], *_tail(blocks[index][1:], details)] for index in cut}
    for index in range(len(blocks) - 1, -1, -1):
        if index in kept or steps[index].running:
            continue
        if len(blocks[index]) > room:
            break
        kept[index] = blocks[index]
        room -= len(blocks[index])
    return [kept[index] for index in sorted(kept)]


def _tail(rows: list[Row], count: int) -> list[Row]:
    return rows[-count:] if count else []


def paint(row: Row, width: int, *, colour: bool) -> str:
    """One row in exactly one line of at most ``width`` columns."""
    right = "  " + row.right if row.right else ""
    room = width - columns(right)
    if room < 12:
        right, room = "", width
    left = cut(row.left, room)
    text = left + " " * (room - columns(left)) + right if right else left
    return f"\x1b[{row.style}m{text}\x1b[0m" if colour and row.style else text


def columns(text: str) -> int:
    """The columns that a terminal takes for ``text`` (no control characters in it)."""
    if text.isascii():
        return len(text)
    return sum(_width(char) for char in text)


def cut(text: str, width: int) -> str:
    """The start of ``text`` that fits into ``width`` columns, with … where something is left out."""
    if len(text) <= width and text.isascii():
        return text
    if columns(text) <= width:
        return text
    used = 1
    for index, char in enumerate(text):
        used += _width(char)
        if used > width:
            return text[:index] + "…"
    return text


def _width(char: str) -> int:
    if char.isascii():
        return 1
    from unicodedata import category, east_asian_width

    if category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1
