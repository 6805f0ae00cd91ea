"""The index of a shared cache: which results it has under which keys, and of which layers they are made.

It travels as the config of an ordinary OCI image manifest whose layers are the blobs, so any registry takes
it; every other kind of cache stores the same two documents. Written canonically::

    version     1
    blobs       [{diffID, digest, size, mediaType, held}]  held: false for a base image's layer, which is
                fetched from where the image is
    layers      [[blob, parent]]   numbers into blobs and into layers; parent is -1 or smaller than its own
    results     [{key, definitions, layer, created}]  layer is the topmost one; definitions are other keys
                that were seen to lead to this one
    mounts      {name: blob}  contents of cache mounts, by a digest of what the mount is called
    names       {key: text}  what steps are called, for people
    places      {name: [id, mode, uid, gid]}  the mounts' directories
    starts      {name: key}  of mounts with ``from=``: the result that they began as

It holds digests, sizes and times alone: no name, no command and no variable reaches it. (``names``,
``places`` and ``starts`` are of files that ``pybuild cache export`` writes, and nothing else.) What is read
is hostile until checked; what passes here has the right form, no more. Blobs are verified by digest, size and
diff id when they are unpacked. That a result is what its key promises is the word of whoever may write the
cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from buildkit_py import digest as digests
from buildkit_py.digest import DiffID, Digest
from buildkit_py.image import assemble
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import media
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

VERSION = 1
CONFIG_TYPE = "application/vnd.buildkit-py.cache.v1+json"
INLINE = "buildkit-py.cache.v1"
"""The field of an image's config that holds an inline cache: [{key, definitions, layers, created}], where
``layers`` is how many of the image's layers, from the bottom, the result is made of."""


class SharedLayer(NamedTuple):
    diff_id: DiffID
    blob: LayerBlob
    held: bool = True
    """Whether the cache has the blob itself."""


class SharedResult(NamedTuple):
    key: Digest
    definitions: tuple[Digest, ...]
    layers: tuple[SharedLayer, ...]
    """Bottom first."""
    created: float
    """Seconds since the epoch."""


class MountPlace(NamedTuple):
    id: str
    mode: int
    uid: int
    gid: int
    start: Digest | None = None
    """The key of the result that it began as."""


class SharedIndex:
    """Results by key; later additions under the same key win."""

    def __init__(self, results: Iterable[SharedResult] = ()) -> None:
        self.results: dict[Digest, SharedResult] = {}
        self.definitions: dict[Digest, Digest] = {}
        self.mounts: dict[Digest, SharedLayer] = {}
        self.names: dict[Digest, str] = {}
        self.places: dict[Digest, MountPlace] = {}
        for result in results:
            self.add(result)

    def add(self, result: SharedResult) -> None:
        self.results[result.key] = result
        for definition in result.definitions:
            self.definitions[definition] = result.key

    def blobs(self) -> list[SharedLayer]:
        """Every blob once."""
        layers = (layer for r in self.results.values() for layer in r.layers)
        return list(dict.fromkeys([*layers, *self.mounts.values()]))


def encode(index: SharedIndex) -> tuple[bytes, bytes]:
    """(config, manifest)"""
    blobs: dict[SharedLayer, int] = {}
    layers: dict[tuple[int, int], int] = {}
    results = []
    for result in sorted(index.results.values()):
        top = -1
        for layer in result.layers:
            blob = blobs.setdefault(layer, len(blobs))
            top = layers.setdefault((blob, top), len(layers))
        results.append(
            {"key": result.key, "definitions": sorted(result.definitions), "layer": top}
            | {"created": int(result.created)}
        )
    mounts = {name: blobs.setdefault(blob, len(blobs)) for name, blob in sorted(index.mounts.items())}
    document: dict[str, Any] = {
        "version": VERSION,
        "blobs": [_blob(layer) for layer in blobs],
        "layers": [list(pair) for pair in layers],
        "results": results,
        "mounts": mounts,
    }
    if index.names:
        document["names"] = index.names
    if index.places:
        document["places"] = {name: place[:4] for name, place in index.places.items()}
        document["starts"] = {name: place.start for name, place in index.places.items() if place.start}
    config = digests.canonical(document)
    return config, manifest_of(config, [layer.blob for layer in blobs if layer.held])


def manifest_of(config: bytes, blobs: Sequence[LayerBlob]) -> bytes:
    distinct = {blob.digest: blob for blob in blobs}
    return digests.canonical(
        {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": assemble.descriptor(CONFIG_TYPE, digests.of_bytes(config), len(config)),
            "layers": [assemble.descriptor(*blob) for blob in distinct.values()],
        }
    )


def _blob(layer: SharedLayer) -> dict[str, Any]:
    media_type, digest, size = layer.blob
    return {
        "diffID": layer.diff_id,
        "digest": digest,
        "size": size,
        "mediaType": media_type,
        "held": layer.held,
    }


def inline(results: Iterable[SharedResult]) -> list[dict[str, Any]]:
    """What an image's config says under INLINE. Each result's layers are the image's lowest ones."""
    return [
        {"key": r.key, "definitions": sorted(r.definitions), "layers": len(r.layers)}
        | {"created": int(r.created)}
        for r in sorted(results)
    ]
