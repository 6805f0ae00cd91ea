"""Values that tests of containers are made of."""

from __future__ import annotations

import time
from typing import Any

from buildkit_py.digest import Digest, SnapshotID, of_bytes
from buildkit_py.request import RunRequest
from buildkit_py.runtime.config import Config

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
