"""Values that tests of containers are made of."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from buildkit_py.digest import Digest, SnapshotID, of_bytes
from buildkit_py.request import RunRequest
from buildkit_py.runtime.config import Config
from tests.support.runner import Pybuild

IMAGE = of_bytes(b"image")


def config(
    id: str,
    name: str = "",
    *,
    image: Digest = IMAGE,
    snapshot: SnapshotID | None = None,
    **request: Any,
) -> Config:
    return Config(
        id=id,
        name=name,
        created=time.time(),
        image=image,
        snapshot=snapshot,
        platform="linux/amd64",
        request=RunRequest("app", name=name, **request),
        image_config={},
        command=("sh",),
    )


def supervisor_of(pybuild: Pybuild, name: str) -> int:
    """The process that holds the container's lock."""
    place = Path(pybuild("inspect", "-f", "{{.LogPath}}", name).stdout.strip()).with_name("lock")
    number = os.stat(place).st_ino
    for entry in os.listdir("/proc"):
        try:
            for fd in os.listdir(f"/proc/{entry}/fd") if entry.isdigit() else ():
                if os.stat(f"/proc/{entry}/fd/{fd}").st_ino == number:
                    return int(entry)
        except OSError:
            continue
    raise AssertionError("nobody has the lock")


def state(pybuild: Pybuild, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(pybuild("inspect", "-f", "{{json .State}}", name).stdout)
    return found


def ready(pybuild: Pybuild, name: str) -> None:
    """Wait until the container has written its first line."""
    with pybuild.start("logs", "-f", name) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        process.kill()
