"""``load`` and ``import``: images out of archives, and an image out of the tar of a root file system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from buildkit_py.archive import compression
from buildkit_py.content.store import ContentStore
from buildkit_py.digest import DiffID, Digest
from buildkit_py.errors import ImageError, UsageError
from buildkit_py.image import archive, assemble, reference
from buildkit_py.image.archive import Archive, Readable, Stored
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.store import ImageStore
from buildkit_py.oci import media, platform, validate
from buildkit_py.tuples import NamedTuple

_CHUNK = 1 << 20
_MAX_NESTING = 3
_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"


class Loaded(NamedTuple):
    id: Digest
    names: tuple[str, ...]
    """Normalised references that mean it now."""


class _DockerImage(msgspec.Struct, rename="pascal"):
    """An entry of manifest.json (Docker image specification v1.2)."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def load(content: ContentStore, images: ImageStore, source: Archive) -> list[Loaded]:
    """Take every image of an archive into the store. Raises ImageError; the store is then as before."""
    loader = _Loader(content, images, source)
    try:
        loaded = loader.run()
    except BaseException:
        kept = images.referenced()
        source.keep(kept)
        for digest in loader.made - kept:
            content.delete(digest)
        raise
    source.keep(images.referenced())
    return loaded


def import_rootfs(
    content: ContentStore,
    images: ImageStore,
    stream: Readable,
    *,
    name: str = "",
    config: Mapping[str, Any] | None = None,
    message: str = "",
    wanted: str = "",
) -> Loaded:
    """Make an image of one layer out of a tar (compressed or not). ``config``: its run configuration.

    Raises ImageError where the stream is no tar.
    """
    target = platform.parse(wanted) if wanted else platform.host()
    tar = compression.open_archive(stream)
    if tar is None:
        raise ImageError("what is to be imported is no tar archive")
    diff_id, _ = _store_layer(content, images, tar)
    document: dict[str, Any] = {
        "architecture": target.architecture,
        "os": target.os,
        "config": dict(config or {}),
        "history": [{"created_by": "import", **({"comment": message} if message else {})}],
    }
    if target.variant:
        document["variant"] = target.variant
    image_id = images.put(assemble.config_bytes(document, [diff_id]))
    return Loaded(image_id, (images.tag(name, image_id),) if name else ())


class _Loader:
    def __init__(self, content: ContentStore, images: ImageStore, source: Archive) -> None:
        self._content = content
        self._images = images
        self._source = source
        self._loaded: dict[Digest, set[str]] = {}
        self.made: set[Digest] = set()
        """Blobs that the archive does not hold as they are: its layers, compressed."""

    def run(self) -> list[Loaded]:
        index = archive.document(self._source, self._content, "index.json")
        listing = archive.document(self._source, self._content, "manifest.json")
        if index is None and listing is None:
            raise ImageError(
                "this is no archive of images: it has neither index.json nor manifest.json",
                hint="`pybuild import` makes an image out of a root file system",
            )
        docker = [] if listing is None else self._docker_images(listing)
        if index is not None:
            self._index(index, docker)
        else:
            for image in docker:
                self._docker(image)
        return [Loaded(image_id, tuple(sorted(names))) for image_id, names in self._loaded.items()]

    def _name(self, text: str, target: Digest, kind: str = "image") -> str | None:
        """Give a name that the archive proposes; one that is no reference is left out."""
        try:
            ref = reference.parse(text)
        except UsageError:
            return None
        if not ref.tag:
            return None
        return self._images.tag(text, target, "index" if kind == "index" else "image")

    # OCI

    def _index(self, data: bytes, docker: Sequence[_DockerImage]) -> None:
        checked = validate.index(data, "index.json")
        if not checked.manifests:
            raise ImageError("the archive holds no image")
        tags = {image.config.rpartition("/")[2].removesuffix(".json"): image.repo_tags for image in docker}
        for entry in checked.manifests:
            marks = entry.annotations or {}
            names = [marks[_NAME]] if _NAME in marks else []
            if not names and _is_whole_name(marks.get(_REF_NAME, "")):
                names = [marks[_REF_NAME]]
            self._entry(entry, names, tags)

    def _entry(
        self, entry: validate.Descriptor, names: list[str], tags: Mapping[str, list[str] | None]
    ) -> None:
        data = archive.blob(self._source, self._content, entry.digest)
        if not validate.is_index(data, entry.media_type):
            image_id = self._manifest(data)
            for name in {*names, *(tags.get(image_id[7:]) or ())}:
                full = self._name(name, image_id)
                if full:
                    self._loaded[image_id].add(full)
            return
        ids = self._nested(data, 1)
        if not ids:
            raise ImageError("the archive holds no image of the platforms that its index names")
        self._content.write(data)
        for name in names:
            full = self._name(name, Digest(entry.digest), "index")
            for image_id in ids if full else ():
                self._loaded[image_id].add(full or "")

    def _nested(self, data: bytes, depth: int) -> list[Digest]:
        """The images of an index that the archive really holds; attestations are none."""
        if depth > _MAX_NESTING:
            raise ImageError("the archive has indexes that are nested too deep")
        ids: list[Digest] = []
        for entry in validate.index(data, "an index of the archive").manifests:
            if entry.platform is not None and entry.platform.os == "unknown":
                continue
            if not archive.has_blob(self._source, self._content, entry.digest):
                continue
            inner = archive.blob(self._source, self._content, entry.digest)
            if validate.is_index(inner, entry.media_type):
                ids += self._nested(inner, depth + 1)
            else:
                ids.append(self._manifest(inner))
        return ids

    def _manifest(self, data: bytes) -> Digest:
        checked = validate.manifest(data, "a manifest of the archive")
        if checked.config.media_type not in media.CONFIGS:
            raise ImageError(f"the archive holds an artifact ({checked.config.media_type[:100]!r}), no image")
        config = archive.blob(self._source, self._content, checked.config.digest)
        diff_ids = validate.config(config, "a config of the archive").rootfs.diff_ids
        if len(diff_ids) != len(checked.layers):
            raise ImageError(
                f"an image has {len(checked.layers)} layers, but its config names {len(diff_ids)}"
            )
        for layer in checked.layers:
            archive.require(self._source, self._content, layer.digest, layer.size)
        image_id = self._images.put(config, manifest=data)
        self._loaded.setdefault(image_id, set())
        return image_id

    # Docker

    def _docker_images(self, data: bytes) -> list[_DockerImage]:
        return validate.decode(data, list[_DockerImage], "manifest.json")

    def _docker(self, image: _DockerImage) -> None:
        config = archive.document(self._source, self._content, image.config)
        if config is None:
            raise ImageError(f"the archive lacks the config {image.config[:200]!r}")
        diff_ids = validate.config(config, "a config of the archive").rootfs.diff_ids
        if len(diff_ids) != len(image.layers):
            raise ImageError(f"an image has {len(image.layers)} layers, but its config names {len(diff_ids)}")
        for diff_id, path in zip(diff_ids, image.layers, strict=True):
            self._docker_layer(DiffID(diff_id), path)
        image_id = self._images.put(config)
        names = self._loaded.setdefault(image_id, set())
        for tag in image.repo_tags or ():
            full = self._name(tag, image_id)
            if full:
                names.add(full)

    def _docker_layer(self, diff_id: DiffID, path: str) -> None:
        """Verify a layer and keep it compressed: as it is, or by us."""
        known = self._images.layer_blob(diff_id, (media.OCI_LAYER_GZIP, media.OCI_LAYER_ZSTD))
        if known is not None and self._content.hold(known.digest):
            return
        stored = self._source.find(path)
        if stored is None:
            raise ImageError(f"the archive lacks the layer {path[:200]!r}")
        with self._content.open(stored.digest) as file:
            head, whole = compression.peek(file, 6)
            kind = compression.detect(head)
            tar = compression.decompressed(whole, kind)
            if kind in ("gzip", "zstd"):
                found = _keep_layer(self._images, tar, stored, kind)
            else:
                found, blob = _store_layer(self._content, self._images, tar)
                self.made.add(blob)
        if found != diff_id:
            raise ImageError(f"the layer {path[:200]!r} unpacks to {found}; its image says {diff_id}")


def _keep_layer(images: ImageStore, tar: Readable, stored: Stored, kind: str) -> DiffID:
    hashed = sha256()
    while data := tar.read(_CHUNK):
        hashed.update(data)
    diff_id = DiffID("sha256:" + hashed.hexdigest())
    media_type = media.OCI_LAYER_GZIP if kind == "gzip" else media.OCI_LAYER_ZSTD
    images.remember_blob(diff_id, LayerBlob(media_type, stored.digest, stored.size))
    return diff_id


def _store_layer(content: ContentStore, images: ImageStore, tar: Readable) -> tuple[DiffID, Digest]:
    """Compress a tar into the content store; (what it is as a layer, as a blob)."""
    from buildkit_py.layer.compress import Write, compress_layer

    def produce(write: Write) -> None:
        while data := tar.read(_CHUNK):
            write(data)

    with content.writer(hashing=False) as writer:
        made = compress_layer(produce, writer.write)
        writer.commit(made.digest)
    images.remember_blob(made.diff_id, LayerBlob(media.OCI_LAYER_GZIP, made.digest, made.size))
    return made.diff_id, made.digest


def _is_whole_name(text: str) -> bool:
    """Whether ``org.opencontainers.image.ref.name`` holds a name rather than a bare tag (podman, skopeo)."""
    return "/" in text or ":" in text
