"""A layer's blob on its way into the content store, readable while it comes.

One thread writes what the registry sends; another reads the same file behind it and unpacks. Memory stays
small however far the two are apart, and the file is the blob itself when all has come.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

from buildkit_py.content.store import BlobWriter, ContentStore
from buildkit_py.digest import Digest
from buildkit_py.errors import PybuildError
from buildkit_py.progress.events import Emit, StatusEvent
from buildkit_py.solver.solve import LOOK_FOR_SIGNALS

_EVENT_SECONDS = 0.1
CHUNK = 1 << 20


class CancelledError(PybuildError):
    """The pull that this blob belongs to has failed elsewhere."""


class Arrival:
    """One blob. ``receive`` runs in the downloading thread; ``read`` and ``wait`` in the reading one."""

    def __init__(self, content: ContentStore, digest: Digest, size: int) -> None:
        self.digest = digest
        self.size = size
        self._content = content
        self._changed = threading.Condition()
        self._received = 0
        self._done = False
        self._error: BaseException | None = None
        self._cancelled = False
        self._fd = -1
        self._writer: BlobWriter | None = None
        self._offset = 0

    def receive(self, chunks: Iterator[bytes], emit: Emit, vertex: str) -> None:
        """Store what comes; the iterator verifies digest and size. Errors go to the reader."""
        try:
            if self._cancelled:
                return
            with self._content.writer(hashing=False) as writer:
                with self._changed:
                    self._writer, self._fd = writer, writer.reader()
                self._store(writer.write, chunks, emit, vertex)
                writer.commit(self.digest)
            with self._changed:
                self._done = True
                self._changed.notify_all()
        except BaseException as e:
            with self._changed:
                self._error = e
                self._changed.notify_all()

    def _store(self, write: Callable[[bytes], int], chunks: Iterator[bytes], emit: Emit, vertex: str) -> None:
        started = time.time()
        shown = started
        emit(StatusEvent(vertex, self.digest, 0, self.size, started))
        for chunk in chunks:
            write(chunk)
            with self._changed:
                self._received += len(chunk)
                self._changed.notify_all()
            if self._cancelled:
                raise CancelledError("cancelled")
            now = time.time()
            if now - shown >= _EVENT_SECONDS:
                shown = now
                emit(StatusEvent(vertex, self.digest, self._received, self.size, started))
        emit(StatusEvent(vertex, self.digest, self.size, self.size, started, time.time()))

    def read(self, size: int = CHUNK, /) -> bytes:
        """The next bytes, as they come; ``b""`` only once the whole blob is here and verified."""
        with self._changed:
            while self._offset >= self._received and not self._done:
                if self._error is not None:
                    raise self._error
                self._changed.wait(LOOK_FOR_SIGNALS)
            available = self._received - self._offset
        if not available:
            return b""
        data = os.pread(self._fd, min(size, available), self._offset)
        self._offset += len(data)
        return data

    def wait(self) -> None:
        """Until the blob is in the store, whole and verified. Raises what kept it from that."""
        with self._changed:
            while not self._done:
                if self._error is not None:
                    raise self._error
                self._changed.wait(LOOK_FOR_SIGNALS)

    def cancel(self) -> None:
        self._cancelled = True

    def close(self) -> None:
        """After the end of the downloading thread, or instead of waiting for it any longer."""
        with self._changed:
            if self._writer is not None and not self._done and self._error is None:
                self._writer.abandon()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
