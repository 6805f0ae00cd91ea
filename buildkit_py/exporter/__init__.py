"""Exporters turn a result into something outside: an image in the store, a push, an archive, a directory.

Each kind is a module of its own with ``export(spec, products, stores, emit, vertex)``, and one line in
EXPORTERS. It is imported when it is asked for.
"""

from __future__ import annotations

from buildkit_py.digest import SnapshotID
from buildkit_py.progress.events import Emit
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from buildkit_py.content.store import ContentStore
    from buildkit_py.exporter.attestations import Predicate
    from buildkit_py.exporter.spec import OutputSpec
    from buildkit_py.image.store import ImageStore
    from buildkit_py.snapshot.store import SnapshotStore
    from buildkit_py.source.image import ImageSources


class Stores(NamedTuple):
    """What exporters read from and write to."""

    content: ContentStore
    images: ImageStore
    snapshots: SnapshotStore
    sources: ImageSources


class Product(NamedTuple):
    """One result of a build: one platform of one target."""

    platform: str
    """``os/arch[/variant]``"""
    snapshot: SnapshotID | None
    """None: no files (FROM scratch and nothing else)."""
    config: bytes = b""
    """The image config (buildkit_py.image.assemble.config_bytes); may be empty unless Kind.needs_image."""
    names: tuple[str, ...] = ()
    """What ``-t`` gave."""
    manifest: bytes = b""
    """Of layers that are known as blobs and may not be here; then ``snapshot`` is None."""
    predicates: tuple[Predicate, ...] = ()
    """What is to be stated of it."""


class Kind(NamedTuple):
    module: str
    needs_image: bool
    """Whether Product.config (and so every diff id) must be known."""
    needs_dest: bool


EXPORTERS = {
    "image": Kind("buildkit_py.exporter.image", True, False),
    "registry": Kind("buildkit_py.exporter.registry", True, False),
    "oci": Kind("buildkit_py.exporter.oci", True, True),
    "docker": Kind("buildkit_py.exporter.docker", True, True),
    "local": Kind("buildkit_py.exporter.local", False, True),
    "tar": Kind("buildkit_py.exporter.tar", False, True),
}


class _Module(Protocol):
    def export(
        self, spec: OutputSpec, products: tuple[Product, ...], stores: Stores, emit: Emit, vertex: str
    ) -> dict[str, Any]: ...


def export(
    spec: OutputSpec, products: tuple[Product, ...], stores: Stores, emit: Emit, vertex: str = ""
) -> dict[str, Any]:
    """Do what ``-o`` asks for; return what ``--metadata-file`` tells (``containerimage.digest``, …).

    Raises UsageError, StoreError, RegistryError.
    """
    from importlib import import_module

    module = cast(_Module, import_module(EXPORTERS[spec.kind].module))
    return module.export(spec, products, stores, emit, vertex)
