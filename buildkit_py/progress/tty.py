"""The live display on a terminal.

Written by hand instead of with rich's Live: rich takes 35 ms to import and its frames take the GIL from
the build ten times a second; this is one write a frame, nothing imported, and each line is cut to the
terminal's width, so the cursor's way back is known. A frame is drawn over the last one (never cleared
first) inside a synchronised update, so it does not flicker.

The thread that draws starts with the first step that runs, but waits DELAY before it draws: a build
where nothing changed is over by then and only leaves its final state behind.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from buildkit_py.progress.display import colour_wanted
from buildkit_py.progress.events import Event
from buildkit_py.progress.frame import Board, columns, paint
from buildkit_py.typed import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from buildkit_py.progress.ticker import Ticker

DELAY = 0.1
INTERVAL = 0.1
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronised update: terminals that know it show the frame at once, others ignore it."""
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
REST_OF_LINE, REST_OF_SCREEN = "\x1b[K", "\x1b[J"


class Terminal:
    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._clock = clock
        self._colour = colour_wanted(stream)
        self._lock = threading.Lock()
        self._board = Board()
        self._ticker: Ticker | None = None
        self._drawn: list[int] = []
        """The length of each line that is on the screen."""
        self._hidden = False
        self._closed = False

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._closed:
                return
            self._board.take(event, self._clock())
            if self._board.running and (self._ticker is None or self._ticker.stopped):
                self._start()

    def close(self) -> None:
        """Leave the final state on the screen, the cursor below it."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.stop()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._board.steps:
                self._draw(finished=True)
            if self._hidden:
                self._write(SHOW)

    def _start(self) -> None:
        from buildkit_py.progress.ticker import Ticker

        delay = DELAY if not self._drawn else INTERVAL
        self._ticker = Ticker(self._tick, delay=delay, interval=INTERVAL)
        self._ticker.start()

    def _tick(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._draw()
        return True

    def _draw(self, *, finished: bool = False) -> None:
        size = _size(self._stream)
        # One column is left free: at the last one some terminals wrap, others wait.
        width = max(size.columns - 1, 20)
        height = 0 if finished else max(size.lines - 1, 2)
        rows = self._board.rows(self._clock(), height=height, finished=finished)
        lines = [paint(row, width, colour=self._colour) for row in rows]
        out = [BEGIN]
        if not self._hidden and not finished:
            out.append(HIDE)
            self._hidden = True
        # A terminal that got narrower has wrapped the old lines: the way up is longer.
        up = sum(-(-length // size.columns) or 1 for length in self._drawn)
        if up:
            out.append(f"\r\x1b[{min(up, size.lines)}A")
        out += [line + REST_OF_LINE + "\n" for line in lines]
        out += [REST_OF_SCREEN, END]
        self._drawn = [min(columns(row.left), width) if not row.right else width for row in rows]
        self._write("".join(out))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal is gone; the build goes on without it.
            self._closed = True


def _size(stream: TextIO) -> os.terminal_size:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return os.terminal_size((80, 24))
    return size if size.columns > 0 and size.lines > 0 else os.terminal_size((80, 24))
