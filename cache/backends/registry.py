"""``type=registry``: the cache is an OCI image manifest under a tag. Inline caches of images are read too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from buildkit_py import digest as digests
from buildkit_py.cache import shared, sharedread
from buildkit_py.cache.backends import WRITERS, Make, Services
from buildkit_py.cache.shared import SharedIndex
from buildkit_py.digest import Digest
from buildkit_py.errors import ImageError, NotFoundError, RegistryError, UsageError
from buildkit_py.image import reference
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import documents, media, validate
from buildkit_py.registry.client import Uploaded
from buildkit_py.registry.pipe import Pipe

_MOUNT_TRIES = 3
_PLATFORMS = 16
"""Of an image for several platforms, so many are looked into for inline caches."""


class RegistryBackend:
    def __init__(self, ref: str, services: Services) -> None:
        self._name = reference.parse(ref)
        self._client = services.client()
        self._origins = services.origins
        self.shown = self._name.familiar
        self.writers = WRITERS
        self.place = (self._name.registry, self._name.repository)

    def read_index(self) -> SharedIndex | None:
        try:
            top = self._client.fetch_manifest(*self.place, self._name.digest or self._name.tag)
        except NotFoundError:
            return None
        what = f"the cache {self.shown}"
        if not validate.is_index(top.data, top.media_type):
            found = self._read(top.data, what)
            if found is None:
                raise ImageError(
                    f"{self.shown} has no cache in it",
                    hint="pybuild reads caches that pybuild wrote; an image has one if it was built with "
                    "--cache-to type=inline",
                )
            return found
        validate.index(top.data, what)
        joined: SharedIndex | None = None
        for entry in documents.index(top.data)["manifests"][:_PLATFORMS]:
            fetched = self._client.fetch_manifest(*self.place, entry["digest"])
            found = self._read(fetched.data, what)
            joined = joined or found
            for result in found.results.values() if found is not None and found is not joined else ():
                if joined is not None:
                    joined.add(result)
        if joined is None:
            raise ImageError(f"{self.shown} has no cache in it")
        return joined

    def _read(self, manifest: bytes, what: str) -> SharedIndex | None:
        checked = validate.decode(manifest, validate.Manifest, what)
        descriptor = checked.config
        if descriptor.media_type not in (shared.CONFIG_TYPE, *media.CONFIGS):
            return None
        validate.descriptor(descriptor, what)
        config = self._client.fetch_blob(*self.place, Digest(descriptor.digest), descriptor.size)
        if descriptor.media_type == shared.CONFIG_TYPE:
            return sharedread.decode(config, what)
        return sharedread.decode_inline(config, manifest, what)

    def has(self, blob: LayerBlob) -> bool:
        return self._client.has_blob(*self.place, blob.digest) or self._mounted(blob.digest)

    def _mounted(self, digest: Digest) -> bool:
        """Let a blob of another repository of this registry appear here, without being sent."""
        registry, own = self.place
        others = [r for host, r in self._origins(digest) if host == registry and r != own]
        try:
            return any(self._client.mount_blob(registry, own, digest, r) for r in others[:_MOUNT_TRIES])
        except (RegistryError, NotFoundError):
            return False

    def read_blob(self, blob: LayerBlob) -> Iterator[bytes]:
        return self._client.blob(*self.place, blob.digest, blob.size)

    def write_blob(self, make: Make) -> LayerBlob:
        made: list[LayerBlob] = []

        def produce() -> Iterator[bytes]:
            made.clear()
            pipe = Pipe()
            return pipe.chunks(lambda: made.append(make(pipe.put)))

        self._client.upload_blob(
            *self.place, produce, finished=lambda: Uploaded(made[0].digest, made[0].size)
        )
        return made[0]

    def write_index(self, config: bytes, manifest: bytes) -> None:
        if not self._client.has_blob(*self.place, digests.of_bytes(config)):
            self._client.upload_bytes(*self.place, config)
        self._client.put_manifest(*self.place, self._name.tag, manifest, media.OCI_MANIFEST)

    def close(self) -> None:
        pass


def check(attributes: Mapping[str, str], writing: bool) -> None:
    digest = reference.parse(attributes["ref"]).digest
    if writing and digest:
        raise UsageError(
            f"--cache-to: {attributes['ref']}: a digest is not for choosing", hint="write the cache to a tag"
        )


def open(attributes: Mapping[str, str], services: Services) -> RegistryBackend:
    return RegistryBackend(attributes["ref"], services)
