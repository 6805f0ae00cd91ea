"""The manifests and indexes that go out with an image's blobs, to a registry or into a layout."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py import digest as digests
from buildkit_py.exporter import Stores
from buildkit_py.exporter.annotations import CREATED, select
from buildkit_py.exporter.spec import Packing
from buildkit_py.image import assemble
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.store import Image
from buildkit_py.oci import documents, media
from buildkit_py.oci.documents import DescriptorDict


def manifest_of(
    image: Image, config: bytes, blobs: Sequence[LayerBlob], stores: Stores, packing: Packing
) -> bytes:
    """The manifest that an image came with, if these are its blobs and nothing else is asked for; else a new
    one."""
    annotations = select(packing.annotations, "manifest", image.platform)
    own = None if image.manifest is None else stores.content.read(image.manifest)
    if own is not None:
        document = documents.manifest(own)
        if [layer["digest"] for layer in document["layers"] or ()] == [blob.digest for blob in blobs]:
            is_docker = document.get("mediaType") == media.DOCKER_MANIFEST
            if not annotations and (is_docker or not packing.docker):
                return own
            if not is_docker and not packing.docker:
                document["annotations"] = {**document.get("annotations", {}), **annotations}
                return digests.canonical(document)
    return assemble.manifest_bytes(config, blobs, annotations, docker=packing.docker)


def listed_as(descriptor: DescriptorDict, image: Image, packing: Packing) -> DescriptorDict:
    """A manifest's descriptor as an index lists it."""
    entry: DescriptorDict = {**descriptor, "platform": documents.platform_of(image.config)}
    annotations = select(packing.annotations, "manifest-descriptor", image.platform)
    return {**entry, "annotations": annotations} if annotations else entry


def index_of(listed: Sequence[DescriptorDict], packing: Packing) -> bytes:
    created = {CREATED: packing.created} if packing.created and not packing.docker else {}
    annotations = {**created, **select(packing.annotations, "index")}
    return assemble.index_bytes(listed, annotations, docker=packing.docker)
