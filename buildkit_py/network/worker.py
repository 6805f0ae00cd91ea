"""A thread that works for another one, in the network namespace that it was made in or entered.

A namespace is a thread's own, and an ordinary user has no way back to the host's: whoever leaves it and has
something to do there later keeps a thread there.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable

from buildkit_py.typed import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Calling this runs a function there and gives its result, or raises its error; from one thread only."""

    def __init__(self) -> None:
        self._work: Callable[[], Any] = lambda: None
        self._result: Any = None
        self._error: BaseException | None = None
        self._asked, self._answered = _thread.allocate_lock(), _thread.allocate_lock()
        self._asked.acquire()
        self._answered.acquire()
        _thread.start_new_thread(self._live, ())

    def __call__(self, work: Callable[[], T]) -> T:
        self._work = work
        self._asked.release()
        self._answered.acquire()
        result, error = self._result, self._error
        self._result = self._error = None
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _live(self) -> None:
        while True:
            self._asked.acquire()
            try:
                self._result = self._work()
            except BaseException as e:
                self._error = e
            self._answered.release()
