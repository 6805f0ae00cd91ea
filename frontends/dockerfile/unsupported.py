"""What this version refuses by name, because the engine can't do it yet.

The converter knows how to convert each of these. Once the engine can run it, its line here goes, and
nothing else changes.
"""

from __future__ import annotations

from buildkit_py.errors import UnsupportedError
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Range

REFUSED = {
    "external-frontend": "a frontend image other than docker/dockerfile",
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
