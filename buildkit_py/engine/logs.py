"""``logs``: what is in a container's log, and what comes while it runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import chain

from buildkit_py.errors import PybuildError
from buildkit_py.runtime import control
from buildkit_py.runtime.container import Container
from buildkit_py.runtime.log import Entry, Reader, stamp
from buildkit_py.tuples import NamedTuple


class LogRequest(NamedTuple):
    follow: bool = False
    tail: int = -1
    """The last lines only; negative for all."""
    since: float = 0.0
    """Seconds since the epoch, of lines to show; 0 for no limit."""
    until: float = 0.0


def entries(container: Container, request: LogRequest) -> Iterator[Entry]:
    if container.config().request.log.driver == "none":
        raise PybuildError(f"the container {container.name} keeps no log (--log-driver none)")
    # Connected before the first reading, so that nothing comes between the two.
    conn = control.connect(container.path) if request.follow else None
    reader = Reader(container.path)
    try:
        # A float holds microseconds: those that were cut off count as within.
        since = stamp(int(request.since * 10**6) * 1000) if request.since else ""
        until = stamp(int(request.until * 10**6) * 1000 + 999) if request.until else "~"
        present: Iterator[Entry] = (e for e in reader.read() if since <= e.time <= until)
        if request.tail >= 0:
            present = iter(deque(present, request.tail))
        coming = _follow(conn, reader, request.until) if conn is not None else iter(())
        for entry in chain(present, coming):
            if entry.time > until:
                return
            if entry.time >= since:
                yield entry
    finally:
        reader.close()
        if conn is not None:
            conn.close()


def _follow(conn: control.Connection, reader: Reader, until: float) -> Iterator[Entry]:
    """``until``: as a request's; what is written later would not be shown, so nobody waits for it."""
    try:
        control.send(conn, {"op": "follow"})
        while True:
            left = until - time.time() if until else None
            if left is not None and left <= 0:
                return
            conn.settimeout(left)
            try:
                message, _ = control.receive(conn)
            except TimeoutError:
                continue
            yield from reader.read()
            if message is None:
                return
    except BrokenPipeError:
        yield from reader.read()
