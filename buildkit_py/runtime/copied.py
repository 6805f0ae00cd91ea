"""Where overlay can't be mounted a container's root is a copy; what it was at first stands beside it.

containers/<id>/copied.json   {path: [mode, inode, ctime, size, mtime, uid, gid]}
"""

from __future__ import annotations

import json
import os

from buildkit_py.snapshot.merge import Recorded, Trace

_FILE = "copied.json"


def record(directory: str, found: Recorded) -> None:
    with open(os.open(f"{directory}/{_FILE}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as f:
        json.dump(found, f)


def recorded(directory: str) -> Recorded:
    with open(f"{directory}/{_FILE}") as f:
        return {path: Trace(*fields) for path, fields in json.load(f).items()}
