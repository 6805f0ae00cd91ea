"""What a container is doing: ``state.json`` in its directory, written by whoever holds its lock.

Replaced by rename, so that a reader sees one state or the next. On a full disk the file is written over in
place: it is padded to a block, which it has already.

A state says what its writer knew. Whether a container runs is told by its lock alone (Container.state).
"""

from __future__ import annotations

import errno
import json
import os

from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_FILE = "state.json"
_SIZE = 4096
"""Bytes of the file: with the answers of a health check there may be more."""

LIVE = ("running", "paused", "restarting")


class State(NamedTuple):
    status: str = "created"
    """created, running, paused, restarting, exited."""
    pid: int = 0
    """Of the first process, as the host's processes see it; 0 while there is none."""
    started: float = 0.0
    """Seconds since the epoch; 0 for never."""
    finished: float = 0.0
    exit_code: int = 0
    error: str = ""
    """Why it could not be started, or what became of its supervisor."""
    oom_killed: bool = False
    restarts: int = 0
    stopped: bool = False
    """By hand: the policy unless-stopped leaves it alone."""
    health: str = ""
    """starting, healthy, unhealthy; "" without a health check."""
    health_log: tuple[dict[str, Any], ...] = ()
    """The last answers: Start, End, ExitCode, Output."""
    failing: int = 0
    """Health checks that failed in a row."""

    @property
    def live(self) -> bool:
        return self.status in LIVE


def read(directory: str) -> State:
    try:
        with open(os.path.join(directory, _FILE), "rb") as f:
            data = f.read()
        fields = json.loads(data)
    except (OSError, ValueError):
        return State()
    known = {name: value for name, value in fields.items() if name in State._fields}
    known["health_log"] = tuple(known.get("health_log", ()))
    return State(**known)


def write(directory: str, state: State) -> None:
    """Raises OSError."""
    data = json.dumps(state._asdict()).encode().ljust(_SIZE)
    path = os.path.join(directory, _FILE)
    try:
        _write(path + ".new", data, os.O_TRUNC)
        os.rename(path + ".new", path)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        try:
            os.unlink(path + ".new")
        except FileNotFoundError:
            pass
        _write(path, data, 0)


def _write(path: str, data: bytes, flags: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
