"""What happened to containers and volumes: a line of JSON each, appended to one file of the store.

    {"time":1714550400123456789,"type":"container","action":"die","id":"…","attributes":{"name":"web",…}}

Written by supervisors and commands, each line with one write. When the file has grown it becomes the old one,
in whose place it is.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from buildkit_py.runtime.config import Config

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
