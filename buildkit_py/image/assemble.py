"""From layers and a config to an image: the documents that are ours, written once and canonically.

The config's bytes are canonical JSON (sorted keys, no white space), so an image id depends on nothing
but the image. Canonical bytes also never differ between two versions of Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buildkit_py import digest as digests
from buildkit_py.digest import DiffID, Digest
from buildkit_py.oci import media
from buildkit_py.oci.documents import DescriptorDict
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any


class LayerBlob(NamedTuple):
    """A layer as it travels: compressed or not."""

    media_type: str
    """One of the OCI layer types."""
    digest: Digest
    size: int


def config_bytes(config: Mapping[str, Any], diff_ids: Sequence[DiffID]) -> bytes:
    """The image config (OCI config.md) as stored and hashed; its digest is the image id.

    ``config`` is the whole document but for ``rootfs``. Its history is made to agree with the number of
    layers, which other tools insist on (skopeo, docker save).
    """
    document = dict(config)
    document["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    if document.get("history"):
        document["history"] = _agreeing(document["history"], len(diff_ids))
    return _text(document)


def image_id(config: bytes) -> Digest:
    return digests.of_bytes(config)


def manifest_bytes(
    config: bytes,
    layers: Sequence[LayerBlob],
    annotations: Mapping[str, str] | None = None,
    *,
    docker: bool = False,
) -> bytes:
    """An OCI manifest (manifest.md) for a config and its layers' blobs, bottom layer first.

    ``docker``: with the media types of Docker's schema 2, which is the same document otherwise.
    """
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.DOCKER_MANIFEST if docker else media.OCI_MANIFEST,
        "config": descriptor(
            media.DOCKER_CONFIG if docker else media.OCI_CONFIG, digests.of_bytes(config), len(config)
        ),
        "layers": [
            descriptor(media.DOCKER_LAYERS[layer.media_type] if docker else layer.media_type, *layer[1:])
            for layer in layers
        ],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return _text(document)


def index_bytes(
    manifests: Sequence[DescriptorDict],
    annotations: Mapping[str, str] | None = None,
    *,
    docker: bool = False,
) -> bytes:
    """An OCI index (image-index.md) over manifests; ``docker``: Docker's manifest list."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.DOCKER_LIST if docker else media.OCI_INDEX,
        "manifests": list(manifests),
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return _text(document)


def _text(document: Mapping[str, Any]) -> bytes:
    """JSON is UTF-8; what an argument of the command line brought that is not, becomes U+FFFD."""
    return digests.canonical(document).decode("utf-8", "replace").encode()


def descriptor(media_type: str, digest: str, size: int) -> DescriptorDict:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _agreeing(history: Sequence[Mapping[str, Any]], layers: int) -> list[dict[str, Any]]:
    """The history with exactly one entry that is not ``empty_layer`` for each layer.

    Bases come with a history that does not fit their layers (squashed or imported images). The newest
    entries are this build's and right, so the oldest ones are corrected.
    """
    entries = [dict(entry) for entry in history]
    missing = layers - sum(not entry.get("empty_layer") for entry in entries)
    for entry in entries:
        if missing >= 0:
            break
        if not entry.get("empty_layer"):
            entry["empty_layer"] = True
            missing += 1
    return [{"comment": "layer without history"} for _ in range(missing)] + entries
