"""What this version refuses by name, because the engine can't do it yet.

The converter knows how to convert each of these. Once the engine can run it, its line here goes, and
nothing else changes.
"""

from __future__ import annotations

from buildkit_py.errors import UnsupportedError
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Range

REFUSED = {
    "add-url": "ADD of a URL",
    "add-git": "ADD of a git repository",
    "add-unpack-url": "ADD --unpack of a URL",
    "ssh-mount": "RUN --mount=type=ssh",
    "device": "RUN --device",
    "insecure": "RUN --security=insecure",
    "external-frontend": "a frontend image other than docker/dockerfile",
    "context-oci-layout": "a named context from an OCI layout",
    "context-git": "a named context from a git repository",
    "context-http": "a named context from a URL",
    "platforms": "building for more than one platform",
}


def refuse(feature: str, dockerfile: Dockerfile, place: Range | None) -> None:
    """Raise UnsupportedError if the feature is in the table."""
    name = REFUSED.get(feature)
    if name is None:
        return
    raise UnsupportedError(
        f"{name} is not supported yet",
        path=dockerfile.path,
        start=place.start if place else 0,
        end=place.end if place else 0,
        lines=dockerfile.lines,
    )
