"""What happened to containers, volumes and networks: a line of JSON each, appended to one file of the store.

    {"time":1714550400123456789,"type":"container","action":"die","id":"…","attributes":{"name":"web",…}}

Written by supervisors and commands, each line with one write. When the file has grown it becomes the old one,
in whose place it is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

from buildkit_py.runtime.config import Config
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import IO, Any

FILE = "events"
OLD = "events.old"
_LARGEST = 4 << 20


def write(directory: str, action: str, config: Config, **attributes: str) -> None:
    """An event of the container in ``directory``. Raises nothing: a full disk loses events."""
    labels = dict(config.image_config.get("Labels") or {}) | dict(config.request.labels)
    put(
        os.path.dirname(os.path.dirname(directory)),
        "container",
        action,
        config.id,
        {"image": config.request.image, "name": config.name, **labels, **attributes},
    )


def put(root: str, kind: str, action: str, id: str, attributes: dict[str, str]) -> None:
    """An event of anything in the store ``root``."""
    fields: dict[str, Any] = {
        "time": time.time_ns(), "type": kind, "action": action, "id": id, "attributes": attributes
    }  # fmt: skip
    path = os.path.join(root, FILE)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(fields, separators=(",", ":")).encode() + b"\n")
            if os.fstat(fd).st_size > _LARGEST:
                os.rename(path, os.path.join(root, OLD))
        finally:
            os.close(fd)
    except OSError:
        pass


class Event(NamedTuple):
    time: int
    """Nanoseconds since the epoch."""
    type: str
    action: str
    id: str
    attributes: dict[str, str]


class Reader:
    """The events of a store, oldest first; ``read`` may be called again when there are more."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._file: IO[bytes] | None = None

    def read(self) -> Iterator[Event]:
        """What there is since the last call; at the first one all that is kept."""
        if self._file is None:
            yield from _events(self._open(OLD))
            self._file = self._open(FILE)
        yield from _events(self._file)
        now = self._open(FILE)
        if now is not None and (
            self._file is None or not os.path.samestat(os.fstat(now.fileno()), os.fstat(self._file.fileno()))
        ):
            self.close()
            self._file = now
            yield from _events(now)
        elif now is not None:
            now.close()

    def _open(self, name: str) -> IO[bytes] | None:
        try:
            return open(os.path.join(self._root, name), "rb")
        except FileNotFoundError:
            return None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _events(file: IO[bytes] | None) -> Iterator[Event]:
    for line in file or ():
        try:
            event = Event(**json.loads(line))
        except (ValueError, TypeError):
            # A line that a full disk cut off.
            continue
        yield event
