"""Reading ahead in a second thread: decompression and hashing run while the first thread unpacks.

Both free the GIL, so that two processors are used.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from buildkit_py.typed import Any, Protocol

CHUNK = 1 << 20
_DEPTH = 6


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Ahead:
    """Hands out the chunks of ``stream`` in order; each goes through ``hasher`` first. A stream of one
    chunk is read without a thread. What the stream raises is raised by :meth:`read`."""

    def __init__(self, stream: Readable, hasher: Any) -> None:
        self._stream = stream
        self._hash = hasher
        self._chunks: deque[bytes] = deque()
        self._ready = threading.Semaphore(0)
        self._room = threading.Semaphore(_DEPTH)
        self._stop = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._started = False
        self._ended = False

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._stop = True
            self._room.release()
            self._thread.join()

    def _produce(self) -> None:
        try:
            while not self._stop:
                self._room.acquire()
                chunk = self._stream.read(CHUNK)
                self._hash.update(chunk)
                self._chunks.append(chunk)
                self._ready.release()
                if not chunk:
                    return
        except BaseException as e:
            self._error = e
            self._chunks.append(b"")
            self._ready.release()

    def read(self, size: int = CHUNK) -> bytes:
        """The next chunk, of any size; ``b""`` at the end."""
        if self._ended:
            return b""
        if not self._started:
            self._started = True
            chunk = self._stream.read(CHUNK)
            self._hash.update(chunk)
            if chunk:
                self._thread = threading.Thread(target=self._produce, daemon=True, name="read ahead")
                self._thread.start()
        else:
            self._ready.acquire()
            chunk = self._chunks.popleft()
            self._room.release()
        if not chunk:
            self._ended = True
            if self._error is not None:
                raise self._error
        return chunk

    def hexdigest(self) -> str:
        """Of the whole stream; to be asked after the end was read."""
        if self._thread is not None:
            self._thread.join()
        result: str = self._hash.hexdigest()
        return result
