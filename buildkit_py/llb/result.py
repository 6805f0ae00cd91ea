"""What a frontend hands to the engine, and what it may ask of it."""

from __future__ import annotations

from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Graph
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any, Protocol


class Warning(NamedTuple):
    """One finding of a build check."""

    rule: str
    message: str
    path: str
    start: int
    end: int
    url: str = ""
    error: bool = False


class BuildTarget(NamedTuple):
    root: Digest | None
    """None: an image without any layer (FROM scratch and metadata only)."""
    config: dict[str, Any]
    """The whole image config document (OCI config.md) but for ``rootfs``: the base's fields and
    history, then this build's."""
    platform: str
    """``os/arch[/variant]``"""


class FrontendResult(NamedTuple):
    graph: Graph
    targets: tuple[BuildTarget, ...]
    warnings: tuple[Warning, ...] = ()


class ResolvedImage(NamedTuple):
    ref: str
    digest: Digest
    config: dict[str, Any]
    """The image's config document."""


class ImageResolver(Protocol):
    def resolve(self, ref: str, platform: str) -> ResolvedImage:
        """Find an image: here first, else in its registry. Raises NotFoundError, RegistryError."""
        ...
