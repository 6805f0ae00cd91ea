"""Several blobs fetched at once, in the order in which they will be wanted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from buildkit_py.content.store import ContentStore
from buildkit_py.digest import Digest
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.progress.events import Emit
from buildkit_py.source.arrival import Arrival

_FAREWELL_SECONDS = 2.0
"""How long to wait at the end for threads that may hang in the network; they are daemons."""


class Downloads:
    """A context manager: leaving it early cancels what still comes."""

    def __init__(
        self,
        content: ContentStore,
        blobs: Sequence[LayerBlob],
        fetch: Callable[[LayerBlob], Iterator[bytes]],
        connections: int,
        emit: Emit,
        vertex: str,
    ) -> None:
        self._emit = emit
        self._vertex = vertex
        self._fetch = fetch
        self._arrivals: dict[Digest, Arrival] = {}
        self._queue: deque[tuple[LayerBlob, Arrival]] = deque()
        for blob in blobs:
            if blob.digest not in self._arrivals:
                arrival = self._arrivals[blob.digest] = Arrival(content, blob.digest, blob.size)
                self._queue.append((blob, arrival))
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=f"download {n}")
            for n in range(min(connections, len(self._queue)))
        ]

    def arrival(self, digest: Digest) -> Arrival | None:
        """The blob as it comes, once: a second layer of the same digest reads it from the store."""
        return self._arrivals.pop(digest, None)

    def __enter__(self) -> Downloads:
        self._all = list(self._arrivals.values())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for arrival in self._all:
            arrival.cancel()
        for thread in self._threads:
            thread.join(_FAREWELL_SECONDS)
        for arrival in self._all:
            arrival.close()

    def _work(self) -> None:
        while True:
            try:
                blob, arrival = self._queue.popleft()
            except IndexError:
                return
            arrival.receive(self._fetch(blob), self._emit, self._vertex)
