"""From a thread that writes to an iterator that is read: how what is being made is sent at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from buildkit_py.errors import PybuildError

_DEPTH = 8
"""Pieces of up to 1 MiB between compression and network."""


class Pipe:
    """A bounded queue of chunks."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._ready = threading.Semaphore(0)
        self._room = threading.Semaphore(_DEPTH)
        self._closed = False
        self._error: BaseException | None = None

    def put(self, data: bytes) -> None:
        self._room.acquire()
        if self._closed:
            raise PybuildError("the upload was given up")
        self._chunks.append(data)
        self._ready.release()

    def chunks(self, make: Callable[[], None]) -> Iterator[bytes]:
        """Run ``make`` in a thread; yield what it puts; raise what it raises."""
        thread = threading.Thread(target=self._run, args=(make,), daemon=True, name="make layer")
        thread.start()
        try:
            while True:
                self._ready.acquire()
                if not self._chunks:
                    break
                chunk = self._chunks.popleft()
                self._room.release()
                yield chunk
        finally:
            self._closed = True
            self._room.release()
        thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, make: Callable[[], None]) -> None:
        try:
            make()
        except BaseException as e:
            self._error = e
        finally:
            self._ready.release()
