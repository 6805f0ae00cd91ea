"""Reading the index of a shared cache (buildkit_py.cache.shared), which may come from anybody.

msgspec costs time to import, so this module is imported when an index is read.
"""

from __future__ import annotations

import json

import msgspec

from buildkit_py import digest as digests
from buildkit_py.cache import shared
from buildkit_py.cache.shared import MountPlace, SharedIndex, SharedLayer, SharedResult
from buildkit_py.digest import DiffID, Digest
from buildkit_py.errors import ImageError
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import media, validate

MAX_LAYERS = 1_000_000
"""Of all results together: a small document must not grow into gigabytes."""


class Blob(msgspec.Struct, rename={"diff_id": "diffID", "media_type": "mediaType"}):
    diff_id: str
    digest: str
    size: int
    media_type: str
    held: bool


class Result(msgspec.Struct):
    key: str
    definitions: list[str]
    layer: int
    created: float


class Document(msgspec.Struct):
    version: int
    blobs: list[Blob]
    layers: list[tuple[int, int]]
    results: list[Result]
    mounts: dict[str, int] = {}
    names: dict[str, str] = {}
    places: dict[str, tuple[str, int, int, int]] = {}
    starts: dict[str, str] = {}


class InlineResult(msgspec.Struct):
    key: str
    definitions: list[str]
    layers: int
    created: float


class InlineDocument(msgspec.Struct, rename={"results": shared.INLINE}):
    results: list[InlineResult]


def decode(config: bytes, what: str) -> SharedIndex:
    """Read an index. Raises ImageError for one that is malformed or of another version."""
    found = validate.decode(config, Document, what)
    if found.version != shared.VERSION:
        raise ImageError(f"{what} has version {found.version}; this pybuild reads version {shared.VERSION}")
    blobs = [_checked_blob(blob, what) for blob in found.blobs]
    for number, (blob, parent) in enumerate(found.layers):
        if not (0 <= blob < len(blobs) and -1 <= parent < number):
            raise ImageError(f"{what} has a layer that points nowhere")
    index = SharedIndex()
    total = 0
    for result in found.results:
        if not -1 <= result.layer < len(found.layers):
            raise ImageError(f"{what} has a result that points nowhere")
        layers = []
        top = result.layer
        while top >= 0:
            blob, top = found.layers[top]
            layers.append(blobs[blob])
            total += 1
            if total > MAX_LAYERS:
                raise ImageError(f"{what} has results of more than {MAX_LAYERS} layers")
        index.add(_checked_result(result, tuple(reversed(layers)), what))
    for name, blob in found.mounts.items():
        _check_digest(name, what)
        if not 0 <= blob < len(blobs):
            raise ImageError(f"{what} has a mount that points nowhere")
        index.mounts[Digest(name)] = blobs[blob]
    index.names = {Digest(key): text for key, text in found.names.items()}
    for name, place in found.places.items():
        _, mode, uid, gid = place
        if not (0 <= mode <= 0o7777 and 0 <= uid < 1 << 32 and 0 <= gid < 1 << 32):
            raise ImageError(f"{what} has a mount of an impossible owner or mode")
        start = found.starts.get(name)
        index.places[Digest(name)] = MountPlace(*place, None if start is None else Digest(start))
    return index


def decode_inline(config: bytes, manifest: bytes, what: str) -> SharedIndex | None:
    """The inline cache of an image by its documents; None where it has none. Raises ImageError."""
    if shared.INLINE not in json.loads(config):
        return None
    checked = validate.manifest(manifest, what)
    diff_ids = validate.config(config, what).rootfs.diff_ids
    if len(diff_ids) != len(checked.layers):
        raise ImageError(f"{what} has {len(checked.layers)} layers, but its config names {len(diff_ids)}")
    layers = tuple(
        SharedLayer(DiffID(d), LayerBlob(media.LAYERS[b.media_type], Digest(b.digest), b.size))
        for d, b in zip(diff_ids, checked.layers, strict=True)
    )

    index = SharedIndex()
    for result in validate.decode(config, InlineDocument, what).results:
        if not 0 <= result.layers <= len(layers):
            raise ImageError(f"{what} has a cached result that points nowhere")
        index.add(_checked_result(result, layers[: result.layers], what))
    return index


def _checked_blob(blob: Blob, what: str) -> SharedLayer:
    for digest in (blob.diff_id, blob.digest):
        _check_digest(digest, what)
    if blob.size < 0 or blob.media_type not in media.LAYERS:
        raise ImageError(f"{what} has a blob that is no layer: {blob.media_type[:100]!r}")
    held = LayerBlob(media.LAYERS[blob.media_type], Digest(blob.digest), blob.size)
    return SharedLayer(DiffID(blob.diff_id), held, blob.held)


def _checked_result(
    result: Result | InlineResult, layers: tuple[SharedLayer, ...], what: str
) -> SharedResult:
    for digest in (result.key, *result.definitions):
        _check_digest(digest, what)
    definitions = tuple(Digest(d) for d in result.definitions)
    return SharedResult(Digest(result.key), definitions, layers, result.created)


def _check_digest(digest: str, what: str) -> None:
    if not digests.is_valid(digest):
        raise ImageError(f"{what} holds {digest[:100]!r}, which is not a sha256 digest")
