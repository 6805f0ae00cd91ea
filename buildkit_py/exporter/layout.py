"""Writing images as an OCI image layout (OCI image-layout.md), with Docker's manifest.json where wanted."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py import digest as digests
from buildkit_py.digest import Digest
from buildkit_py.exporter import Stores
from buildkit_py.exporter.annotations import CREATED, select
from buildkit_py.exporter.attestations import attestation
from buildkit_py.exporter.blobs import layers_of, write_blob
from buildkit_py.exporter.manifests import index_of, listed_as, manifest_of
from buildkit_py.exporter.sinks import Sink
from buildkit_py.exporter.spec import PLAIN, Packing
from buildkit_py.image import assemble, reference
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.store import Image
from buildkit_py.oci import documents, media
from buildkit_py.oci.documents import DescriptorDict
from buildkit_py.typed import Any

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutWriter:
    """Not thread-safe."""

    def __init__(self, sink: Sink, *, docker: bool) -> None:
        self._sink = sink
        self._docker = docker
        self._written: set[Digest] = set()
        self._manifests: list[DescriptorDict] = []
        self._docker_images: list[dict[str, Any]] = []
        sink.folder("blobs")
        sink.folder("blobs/sha256")
        sink.file("oci-layout", _LAYOUT)

    def add_image(
        self, image: Image, stores: Stores, names: Sequence[str], packing: Packing = PLAIN
    ) -> DescriptorDict:
        """Add an image with its blobs under its names (references); the descriptor of its manifest."""
        descriptor = listed_as(self._manifest(image, stores, names, packing), image, packing)
        self._list(descriptor, names, packing.created)
        return descriptor

    def add_index(
        self, images: Sequence[Image], stores: Stores, names: Sequence[str], packing: Packing = PLAIN
    ) -> DescriptorDict:
        """Add images of several platforms as one index under the names; return the index's descriptor."""
        listed = [
            listed_as(self._manifest(image, stores, names, packing), image, packing) for image in images
        ]
        for image, entry in zip(images, listed.copy(), strict=True) if packing.attested else ():
            made = attestation(entry, image.platform, packing.attested, docker=packing.docker)  # type: ignore[arg-type]
            if made is not None:
                for blob in (*made.blobs, made.manifest):
                    self._bytes(blob)
                listed.append(made.descriptor)
        index = index_of(listed, packing)
        media_type = media.DOCKER_LIST if packing.docker else media.OCI_INDEX
        descriptor = assemble.descriptor(media_type, self._bytes(index), len(index))
        annotations = select(packing.annotations, "index-descriptor")
        if annotations:
            descriptor["annotations"] = annotations
        self._list(descriptor, names, packing.created)
        return descriptor

    def close(self) -> None:
        """Write the tables of contents."""
        if self._docker:
            self._sink.file("manifest.json", digests.canonical(self._docker_images))
        self._sink.index(assemble.index_bytes(self._manifests))
        self._sink.close()

    def _manifest(
        self, image: Image, stores: Stores, names: Sequence[str], packing: Packing
    ) -> DescriptorDict:
        """Add all that an image is made of."""
        blobs = [
            self._sink.blob(
                lambda write, layer=layer: write_blob(  # type: ignore[misc]
                    layer, stores, write, packing.made, packing.level, force=packing.force
                )
            )
            for layer in layers_of(image, stores, packing.made, force=packing.force)
        ]
        config = stores.content.read(image.id)
        self._bytes(config)
        data = manifest_of(image, config, blobs, stores, packing)
        media_type = documents.manifest(data).get("mediaType") or media.OCI_MANIFEST
        self._note_for_docker(image, names, blobs)
        return assemble.descriptor(media_type, self._bytes(data), len(data))

    def _list(self, descriptor: DescriptorDict, names: Sequence[str], created: str) -> None:
        """Enter a manifest or index into index.json, once for each name."""
        annotations = dict(descriptor.get("annotations", {}))
        if created:
            annotations.setdefault(CREATED, created)
        for name in [str(reference.parse(name)) for name in names] or [""]:
            entry: DescriptorDict = {**descriptor}
            if name:
                annotations["io.containerd.image.name"] = name
                annotations["org.opencontainers.image.ref.name"] = reference.parse(name).tag
            if annotations:
                entry["annotations"] = dict(annotations)
            self._manifests.append(entry)

    def _bytes(self, data: bytes) -> Digest:
        digest = digests.of_bytes(data)
        if digest not in self._written:
            self._sink.file(f"blobs/sha256/{digest[7:]}", data)
            self._written.add(digest)
        return digest

    def _note_for_docker(self, image: Image, names: Sequence[str], blobs: Sequence[LayerBlob]) -> None:
        """One entry an image, whatever its names: readers choose among entries."""
        config, layers = f"blobs/sha256/{image.id[7:]}", [f"blobs/sha256/{blob.digest[7:]}" for blob in blobs]
        tags = [reference.parse(name).familiar for name in names]
        for known in self._docker_images:
            if (known["Config"], known["Layers"]) == (config, layers):
                tags = list(dict.fromkeys([*(known["RepoTags"] or ()), *tags]))
                known["RepoTags"] = tags or None
                return
        self._docker_images.append({"Config": config, "RepoTags": tags or None, "Layers": layers})
