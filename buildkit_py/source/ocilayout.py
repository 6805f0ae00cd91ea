"""An image out of an OCI image layout directory (OCI image-layout.md): ``oci-layout://DIR[:TAG|@DIGEST]``."""

from __future__ import annotations

import os

from buildkit_py.content.store import ContentStore
from buildkit_py.digest import Digest, is_valid
from buildkit_py.errors import ImageError, NotFoundError, UsageError
from buildkit_py.image import archive
from buildkit_py.image.store import ImageStore
from buildkit_py.oci import documents, media, platform, validate

SCHEME = "oci-layout://"
_REF_NAME = "org.opencontainers.image.ref.name"
_NAME = "io.containerd.image.name"
_MAX_NESTING = 3


def split(value: str) -> tuple[str, str]:
    """(directory, tag or digest or "") of what follows the scheme or of the whole."""
    rest = value.removeprefix(SCHEME)
    path, at, digest = rest.rpartition("@")
    if at and is_valid(digest):
        head, _, last = path.rpartition("/")
        return os.path.join(head, last.partition(":")[0]) if head else last.partition(":")[0], digest
    head, slash, last = rest.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag


def take(content: ContentStore, images: ImageStore, value: str, wanted: str) -> Digest:
    """Take the image that ``value`` means for a platform into the store; return its manifest's digest.

    Raises UsageError where there is no layout, NotFoundError where it has no such image, ImageError.
    """
    directory, tag = split(value)
    source = archive.DirectoryArchive(content, directory)
    if not os.path.isfile(os.path.join(directory, "index.json")):
        raise UsageError(
            f"{directory} is not an OCI image layout: it has no index.json",
            hint="`pybuild build -o type=oci,dest=FILE` writes one as a tar; unpack that",
        )
    try:
        return _take(content, images, source, directory, tag, wanted)
    except BaseException:
        source.keep(images.referenced())
        raise


def _take(
    content: ContentStore,
    images: ImageStore,
    source: archive.Archive,
    directory: str,
    tag: str,
    wanted: str,
) -> Digest:
    data = archive.document(source, content, "index.json")
    if data is None:
        raise ImageError(f"cannot read {directory}/index.json")
    digest = tag if is_valid(tag) else _named(data, directory, tag, wanted)
    target = platform.parse(wanted) if wanted else platform.host()
    for depth in range(_MAX_NESTING + 1):
        document = archive.blob(source, content, digest)
        if not validate.is_index(document, "", f"the manifest of {directory}"):
            break
        if depth == _MAX_NESTING:
            raise ImageError(f"{directory} has indexes that are nested too deep")
        validate.index(document, f"an index of {directory}")
        entries = documents.index(document)["manifests"]
        entry = documents.select(entries, target)
        if entry is None:
            offered = ", ".join(documents.platforms(entries)) or "none that it names"
            raise NotFoundError(f"{directory} has no image for {target}", hint=f"its platforms: {offered}")
        digest = entry["digest"]
    manifest = validate.manifest(document, f"the manifest of {directory}")
    if manifest.config.media_type not in media.CONFIGS:
        raise ImageError(f"{directory} holds an artifact, not an image")
    config = archive.blob(source, content, manifest.config.digest)
    diff_ids = validate.config(config, f"the config of {directory}").rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise ImageError(f"{directory}: {len(manifest.layers)} layers, but the config names {len(diff_ids)}")
    for layer in manifest.layers:
        archive.require(source, content, layer.digest, layer.size)
    images.put(config, manifest=document)
    return Digest(digest)


def _named(data: bytes, directory: str, tag: str, wanted: str) -> str:
    """The digest that a tag means; without one ``latest``, else what there is for the platform."""
    validate.index(data, f"{directory}/index.json")
    entries = documents.index(data)["manifests"]
    found = [e for e in entries if (tag or "latest") in _tags(e)]
    if not found and not tag:
        found = entries
    target = platform.parse(wanted) if wanted else platform.host()
    entry = found[0] if len(found) == 1 else documents.select(found, target)
    if entry is None:
        tags = sorted({t for e in entries for t in _tags(e) if ":" not in t})
        raise NotFoundError(
            f"the OCI layout {directory} has no image {tag}".rstrip(),
            hint="it has: " + ", ".join(tags) if tags else "give its digest: oci-layout://DIR@sha256:…",
        )
    return entry["digest"]


def _tags(entry: documents.DescriptorDict) -> set[str]:
    """The names under which an entry can be asked for: whole ones, and their tags alone."""
    marks = entry.get("annotations") or {}
    names = {marks[key] for key in (_NAME, _REF_NAME) if key in marks}
    return names | {name.rpartition("/")[2].rpartition(":")[2] for name in names}
