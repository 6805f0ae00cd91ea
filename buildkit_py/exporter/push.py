"""Pushing an image: layers first, several at once, then the config, then the manifest under its tag.

A layer that the registry has is not sent; one that another repository of the same registry has is mounted;
everything else streams: one thread makes and hashes the tar, one compresses and hashes, one sends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from buildkit_py import digest as digests
from buildkit_py.errors import NotFoundError, PybuildError, RegistryError, UsageError
from buildkit_py.exporter import Stores
from buildkit_py.exporter.attestations import attestation
from buildkit_py.exporter.blobs import Layer, layers_of, write_blob
from buildkit_py.exporter.manifests import index_of, listed_as, manifest_of
from buildkit_py.exporter.spec import PLAIN, Packing
from buildkit_py.image import assemble, reference
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.reference import Reference
from buildkit_py.image.store import Image
from buildkit_py.oci import documents, media
from buildkit_py.oci.documents import DescriptorDict
from buildkit_py.progress.events import Emit, StatusEvent, ignore
from buildkit_py.registry.client import RegistryClient, Uploaded
from buildkit_py.registry.parallel import all_of
from buildkit_py.registry.pipe import Pipe

UPLOADS = 3
"""Layers that are sent at once."""
_MOUNT_TRIES = 3
_EVENT_SECONDS = 0.1


def push(
    image: Image, ref: str, stores: Stores, emit: Emit = ignore, vertex: str = "", packing: Packing = PLAIN
) -> DescriptorDict:
    """Push an image under a reference with a tag; return the descriptor of its manifest.

    An image that came from a registry or an archive goes out with the manifest that it came with.
    Raises UsageError, RegistryError, NotFoundError, StoreError.
    """
    return _Push(image, _tag(ref), stores, emit, vertex, packing).run()


def push_by_digest(
    image: Image, ref: str, stores: Stores, emit: Emit = ignore, vertex: str = "", packing: Packing = PLAIN
) -> DescriptorDict:
    """Push an image into a reference's repository, without a tag."""
    return _Push(image, reference.parse(ref), stores, emit, vertex, packing, by_digest=True).run()


def push_index(
    images: Sequence[Image],
    ref: str,
    stores: Stores,
    emit: Emit = ignore,
    vertex: str = "",
    packing: Packing = PLAIN,
    *,
    by_digest: bool = False,
) -> DescriptorDict:
    """Push images of several platforms under one tag: the manifests by digest, then the index of them.

    Raises as push() does.
    """
    name = reference.parse(ref) if by_digest else _tag(ref)
    listed: list[DescriptorDict] = []
    for image in images:
        pushed = _Push(image, name, stores, emit, vertex, packing, by_digest=True).run()
        listed.append(listed_as(pushed, image, packing))
    client = stores.sources.client
    for image, entry in zip(images, listed.copy(), strict=True) if packing.attested else ():
        made = attestation(entry, image.platform, packing.attested, docker=packing.docker)  # type: ignore[arg-type]
        if made is not None:
            for blob in made.blobs:
                client.upload_bytes(name.registry, name.repository, blob)
            at, kind = made.descriptor["digest"], made.descriptor["mediaType"]
            client.put_manifest(name.registry, name.repository, at, made.manifest, kind)
            listed.append(made.descriptor)
    index = index_of(listed, packing)
    media_type = media.DOCKER_LIST if packing.docker else media.OCI_INDEX
    under = digests.of_bytes(index) if by_digest else name.tag
    digest = client.put_manifest(name.registry, name.repository, under, index, media_type)
    for image in images:
        stores.images.remember_repo_digest(name.name, digest, image.id)
    return assemble.descriptor(media_type, digest, len(index))


def _tag(ref: str) -> Reference:
    name = reference.parse(ref)
    if name.digest:
        raise UsageError(f"cannot push to {ref}: a digest is not for choosing", hint="push to a tag")
    return name


class _Push:
    """``by_digest``: the manifest gets no tag."""

    def __init__(
        self,
        image: Image,
        name: Reference,
        stores: Stores,
        emit: Emit,
        vertex: str,
        packing: Packing,
        *,
        by_digest: bool = False,
    ) -> None:
        self._by_digest = by_digest
        self._image = image
        self._name = name
        self._stores = stores
        self._emit = emit
        self._vertex = vertex
        self._packing = packing
        self._client: RegistryClient = stores.sources.client
        self._cancelled = False

    def run(self) -> DescriptorDict:
        packing = self._packing
        layers = layers_of(self._image, self._stores, packing.method, force=packing.force)
        distinct = list(dict.fromkeys(layers))
        pushed = dict(zip(distinct, all_of(distinct, self._layer, UPLOADS, self._cancel), strict=True))
        config = self._stores.content.read(self._image.id)
        self._config(config)
        return self._manifest(config, [pushed[layer] for layer in layers])

    def _cancel(self) -> None:
        self._cancelled = True

    def _layer(self, layer: Layer) -> LayerBlob:
        started = time.time()
        blob = layer.blob
        shown = f"pushing layer {(blob.digest if blob else layer.diff_id)[7:19]}"
        total = blob.size if blob else 0
        self._emit(StatusEvent(self._vertex, shown, 0, total, started))
        if blob is None or not (self._is_there(blob) or self._mounted(blob)):
            blob = self._upload(layer, shown, total, started)
        self._stores.images.remember_origin(blob.digest, self._name.registry, self._name.repository)
        self._emit(StatusEvent(self._vertex, shown, blob.size, blob.size, started, time.time()))
        return blob

    def _is_there(self, blob: LayerBlob) -> bool:
        return self._client.has_blob(self._name.registry, self._name.repository, blob.digest)

    def _mounted(self, blob: LayerBlob) -> bool:
        known = self._stores.images.origins(blob.digest)
        same = [repository for registry, repository in known if registry == self._name.registry]
        for repository in [r for r in same if r != self._name.repository][:_MOUNT_TRIES]:
            try:
                if self._client.mount_blob(
                    self._name.registry, self._name.repository, blob.digest, repository
                ):
                    return True
            except (RegistryError, NotFoundError):
                return False
        return False

    def _upload(self, layer: Layer, shown: str, total: int, started: float) -> LayerBlob:
        result: list[LayerBlob] = []

        def produce() -> Iterator[bytes]:
            result.clear()
            pipe = Pipe()

            def make() -> None:
                packing = self._packing
                result.append(
                    write_blob(
                        layer, self._stores, pipe.put, packing.made, packing.level, force=packing.force
                    )
                )

            return self._counted(pipe.chunks(make), shown, total, started)

        def finished() -> Uploaded:
            return Uploaded(result[0].digest, result[0].size)

        self._client.upload_blob(self._name.registry, self._name.repository, produce, finished=finished)
        return result[0]

    def _counted(self, chunks: Iterator[bytes], shown: str, total: int, started: float) -> Iterator[bytes]:
        last, sent = started, 0
        for chunk in chunks:
            if self._cancelled:
                raise PybuildError("the push was given up")
            yield chunk
            sent += len(chunk)
            now = time.time()
            if now - last >= _EVENT_SECONDS:
                last = now
                self._emit(StatusEvent(self._vertex, shown, sent, total, started))

    def _config(self, config: bytes) -> None:
        if not self._client.has_blob(self._name.registry, self._name.repository, self._image.id):
            self._client.upload_bytes(self._name.registry, self._name.repository, config)

    def _manifest(self, config: bytes, blobs: list[LayerBlob]) -> DescriptorDict:
        data = manifest_of(self._image, config, blobs, self._stores, self._packing)
        self._stores.content.write(data)
        media_type = documents.manifest(data).get("mediaType") or media.OCI_MANIFEST
        started = time.time()
        shown = f"pushing manifest for {self._name.familiar}"
        self._emit(StatusEvent(self._vertex, shown, started=started))
        under = digests.of_bytes(data) if self._by_digest else self._name.tag
        digest = self._client.put_manifest(
            self._name.registry, self._name.repository, under, data, media_type
        )
        self._stores.images.remember_repo_digest(self._name.name, digest, self._image.id)
        self._emit(StatusEvent(self._vertex, shown, started=started, completed=time.time()))
        return assemble.descriptor(media_type, digest, len(data))
