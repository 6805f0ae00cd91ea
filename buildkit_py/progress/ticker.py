"""A thread that calls a function again and again, and that can be stopped for certain.

A process may enter a user namespace only while it has a single thread, so the engine calls
``stop_all`` before it does. A display starts its ticker again with the next event.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_running: set[Ticker] = set()


class Ticker:
    """Calls ``tick`` every ``interval`` seconds, first after ``delay``, until it returns False."""

    def __init__(self, tick: Callable[[], bool], *, delay: float, interval: float) -> None:
        self._stop = threading.Event()
        self._tick = tick
        self._delay = delay
        self._interval = interval
        self._thread = threading.Thread(target=self._loop, name="progress", daemon=True)

    def start(self) -> None:
        _running.add(self)
        self._thread.start()

    def stop(self) -> None:
        """Return when the thread has ended; not to be called with a lock held that ``tick`` takes."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        _running.discard(self)

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def _loop(self) -> None:
        wait = self._delay
        while not self._stop.wait(wait):
            if not self._tick():
                self._stop.set()
            wait = self._interval
        _running.discard(self)


def stop_all(*, patience: float = 1.0) -> None:
    """Stop every ticker; returns when the kernel has forgotten their threads too.

    ``Thread.join`` returns a moment before the thread is gone for unshare(2).
    """
    tickers = list(_running)
    for ticker in tickers:
        ticker.stop()
    others = threading.active_count()
    deadline = time.monotonic() + patience
    while tickers and len(os.listdir("/proc/self/task")) > others and time.monotonic() < deadline:
        time.sleep(0.0002)
