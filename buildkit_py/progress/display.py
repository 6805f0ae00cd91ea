"""What a renderer is, and which one a command uses.

A renderer takes events from any thread and writes to one stream (stderr: results alone go to stdout).
"""

from __future__ import annotations

import os
import sys

from buildkit_py.errors import UsageError
from buildkit_py.progress.events import Event
from buildkit_py.typed import Protocol, TextIO

MODES = ("auto", "plain", "tty", "rawjson", "quiet")


class Display(Protocol):
    def __call__(self, event: Event) -> None:
        """Take one event (buildkit_py.progress.events.Emit)."""

    def close(self) -> None:
        """Show what is left and put the terminal back in order; further calls do nothing."""


class Quiet:
    """Shows nothing."""

    def __call__(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass


def colour_wanted(stream: TextIO) -> bool:
    """Whether ``stream`` gets colours: a terminal that can, and no NO_COLOR (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def open_display(mode: str, stream: TextIO | None = None) -> Display:
    """The renderer for ``--progress=mode``.

    ``auto`` is what $BUILDKIT_PROGRESS says, else ``tty`` on a terminal and ``plain`` elsewhere.
    """
    stream = stream if stream is not None else sys.stderr
    if mode in ("", "auto"):
        mode = os.environ.get("BUILDKIT_PROGRESS", "") or "auto"
    if mode == "auto":
        mode = "tty" if stream.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    if mode == "plain":
        from buildkit_py.progress.plain import Plain

        return Plain(stream)
    if mode == "tty":
        if not stream.isatty():
            raise UsageError("--progress=tty needs a terminal on stderr", hint="use --progress=plain")
        from buildkit_py.progress.tty import Terminal

        return Terminal(stream)
    if mode == "rawjson":
        from buildkit_py.progress.rawjson import RawJson

        return RawJson(stream)
    if mode == "quiet":
        return Quiet()
    raise UsageError(f"unknown progress mode '{mode}'", hint="one of " + ", ".join(MODES))
