"""One thread's waiting: descriptors with what to do when they are ready, and things to do later."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

_LONGEST = 86400.0
"""Seconds of one wait: a day."""


class Loop:
    def __init__(self) -> None:
        self._poll = select.poll()
        self._ready: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def watch(self, fd: int, action: Callable[[int], None], events: int = select.POLLIN) -> None:
        """Call ``action`` with the events whenever some of them (or a hang-up) are there; again for the same
        descriptor: in place of what was asked for before."""
        self._ready[fd] = action
        self._poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Before the descriptor is closed."""
        if self._ready.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, action))

    def cancel(self, action: Callable[[], None]) -> None:
        self._timers = [timer for timer in self._timers if timer[1] != action]

    def turn(self) -> None:
        """Wait for something to happen, and deal with it."""
        for fd, events in self._poll.poll(self._patience()):
            action = self._ready.get(fd)
            # An earlier one of the same turn may have done away with it.
            if action is not None:
                action(events)
        now = time.monotonic()
        due = [timer for timer in self._timers if timer[0] <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for _, act in due:
            act()

    def _patience(self) -> float | None:
        """Milliseconds, no more than poll(2) takes; None for ever."""
        if not self._timers:
            return None
        seconds = min(timer[0] for timer in self._timers) - time.monotonic()
        return min(max(0.0, seconds), _LONGEST) * 1000 + 1
