"""An engine and a display for the time of one subcommand."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from buildkit_py.engine import Engine
from buildkit_py.progress.display import Display, open_display


class Session:
    """Both are closed at the end, the display first: what is printed later stands below it.

    SIGTERM unwinds like Ctrl-C does, so that steps are killed, what is half done is removed and the
    terminal gets its cursor back. ``passes_signals``: the command forwards signals itself.
    """

    def __init__(self, progress: str = "auto", *, passes_signals: bool = False) -> None:
        self.display: Display = open_display(progress)
        self.engine = Engine()
        self._passes_signals = passes_signals

    def __enter__(self) -> Session:
        if not self._passes_signals:
            signal.signal(signal.SIGTERM, _terminated)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.display.close()
        finally:
            self.engine.close()


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
