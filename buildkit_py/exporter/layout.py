"""Writing an OCI image layout (OCI image-layout.md) as one tar, with Docker's manifest.json where wanted.

A layer streams straight into the archive: its header, which must name digest and size, is written when both
are known. The same images give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from buildkit_py import digest as digests
from buildkit_py.archive import tar
from buildkit_py.archive.member import DIRECTORY, Member
from buildkit_py.digest import Digest
from buildkit_py.exporter import Stores
from buildkit_py.exporter.blobs import layers_of, write_blob
from buildkit_py.image import assemble, reference
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.store import Image
from buildkit_py.layer.compress import Method
from buildkit_py.oci import documents, media
from buildkit_py.oci.documents import DescriptorDict

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_BLOCK = 512
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_LARGEST_OCTAL = 0o77777777777


class LayoutWriter:
    """Not thread-safe, but for what ``add_blob`` hands out. ``fd`` must be seekable."""

    def __init__(self, fd: int, *, docker: bool) -> None:
        self._fd = fd
        self._docker = docker
        self._blobs: dict[str, int] = {}
        self._manifests: list[DescriptorDict] = []
        self._docker_images: list[dict[str, Any]] = []
        self._put(tar.encode(Member("blobs", DIRECTORY, 0o755)))
        self._put(tar.encode(Member("blobs/sha256", DIRECTORY, 0o755)))
        self._file("oci-layout", _LAYOUT)

    def add_image(
        self,
        image: Image,
        stores: Stores,
        names: Sequence[str],
        *,
        method: Method = "gzip",
        level: int | None = None,
        listed: bool = True,
    ) -> DescriptorDict:
        """Add an image with its blobs; return the descriptor of its manifest.

        ``names``: references; ``listed``: False where an index of several platforms lists it.
        """
        names = [str(reference.parse(name)) for name in names]
        blobs = [
            self.add_blob(lambda write, layer=layer: write_blob(layer, stores, write, method, level))  # type: ignore[misc]
            for layer in layers_of(image, stores, method)
        ]
        config = stores.content.read(image.id)
        self.add_bytes(config)
        data = None if image.manifest is None else stores.content.read(image.manifest)
        if data is None or [d["digest"] for d in documents.manifest(data)["layers"]] != [
            b.digest for b in blobs
        ]:
            data = assemble.manifest_bytes(config, blobs)
        manifest = self.add_bytes(data)
        media_type = documents.manifest(data).get("mediaType") or media.OCI_MANIFEST
        descriptor = assemble.descriptor(media_type, manifest, len(data))
        descriptor["platform"] = documents.platform_of(image.config)
        if listed:
            self.list(descriptor, names)
        self._note_for_docker(image, names, blobs)
        return descriptor

    def add_index(
        self,
        images: Sequence[Image],
        stores: Stores,
        names: Sequence[str],
        *,
        method: Method = "gzip",
        level: int | None = None,
    ) -> DescriptorDict:
        """Add images of several platforms as one index under the names; return the index's descriptor."""
        listed = [
            self.add_image(image, stores, names, method=method, level=level, listed=False) for image in images
        ]
        index = assemble.index_bytes(listed)
        descriptor = assemble.descriptor(media.OCI_INDEX, self.add_bytes(index), len(index))
        self.list(descriptor, names)
        return descriptor

    def list(self, descriptor: DescriptorDict, names: Sequence[str]) -> None:
        """Enter a manifest or index into index.json, once for each name."""
        for name in names or ("",):
            entry: DescriptorDict = {**descriptor}
            if name:
                tag = reference.parse(name).tag
                entry["annotations"] = {
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": tag,
                }
            self._manifests.append(entry)

    def add_blob(self, fill: Callable[[Callable[[bytes], object]], LayerBlob]) -> LayerBlob:
        """Add a blob whose bytes ``fill(write)`` writes and whose digest and size it returns."""
        start = self._put(bytes(_BLOCK))
        blob = fill(self._put)
        end = os.lseek(self._fd, 0, os.SEEK_CUR)
        if end - start - _BLOCK != blob.size:
            raise AssertionError(f"a blob of {blob.size} bytes came with {end - start - _BLOCK}")
        if blob.digest in self._blobs:
            os.lseek(self._fd, start, os.SEEK_SET)
            os.ftruncate(self._fd, start)
            return blob
        os.pwrite(self._fd, _header(f"blobs/sha256/{blob.digest[7:]}", blob.size), start)
        self._put(bytes(-blob.size % _BLOCK))
        self._blobs[blob.digest] = blob.size
        return blob

    def add_bytes(self, data: bytes) -> Digest:
        digest = digests.of_bytes(data)
        if digest not in self._blobs:
            self._file(f"blobs/sha256/{digest[7:]}", data)
            self._blobs[digest] = len(data)
        return digest

    def close(self) -> None:
        """Write the tables of contents and the end mark; the descriptor stays open."""
        self._file("index.json", assemble.index_bytes(self._manifests))
        if self._docker:
            self._file("manifest.json", digests.canonical(self._docker_images))
        self._put(tar.EMPTY)

    def _note_for_docker(self, image: Image, names: Sequence[str], blobs: Sequence[LayerBlob]) -> None:
        self._docker_images.append(
            {
                "Config": f"blobs/sha256/{image.id[7:]}",
                "RepoTags": [reference.parse(name).familiar for name in names] or None,
                "Layers": [f"blobs/sha256/{blob.digest[7:]}" for blob in blobs],
            }
        )

    def _file(self, path: str, data: bytes) -> None:
        self._put(_header(path, len(data)) + data + bytes(-len(data) % _BLOCK))

    def _put(self, data: bytes) -> int:
        """Append; return where it begins."""
        start = os.lseek(self._fd, 0, os.SEEK_CUR)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        return start


def _header(path: str, size: int) -> bytes:
    """One block, whatever the size: beyond 8 GiB as a base-256 number, which every reader takes."""
    if size <= _LARGEST_OCTAL:
        return tar.encode(Member(path, size=size))
    block = bytearray(tar.encode(Member(path)))
    block[_SIZE] = b"\x80" + size.to_bytes(11, "big")
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)
