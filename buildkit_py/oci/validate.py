"""Documents that come from outside, checked before anything is believed.

A registry, an archive or another program may hand in anything. Each document is decoded strictly into a
typed structure (msgspec): wrong types, missing fields, malformed digests, negative sizes and oversized or
deeply nested documents end as ImageError. Fields that this version does not know are let through: what is
stored and hashed are always the raw bytes, never a document written again.

msgspec costs 19 ms to import, so this module is imported only where a foreign document enters; everything
behind it reads the same bytes with the json module as plain dicts.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

import msgspec

from buildkit_py import digest as digests
from buildkit_py.errors import ImageError
from buildkit_py.oci import media

MAX_LAYERS = 1000
"""Of an image; docker takes 125. Work for each grows with their number."""
MAX_DOCUMENT = 4 << 20
"""Bytes: the limit that the distribution spec recommends for manifests."""

_Text = Annotated[str, msgspec.Meta(max_length=1 << 20)]
_Number = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""As Go has them."""
_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class PlatformDoc(msgspec.Struct, rename={"os_version": "os.version"}):
    architecture: _Text
    os: _Text
    variant: _Text | None = None
    os_version: _Text | None = None


class Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: _Size
    media_type: _Text = ""
    platform: PlatformDoc | None = None
    annotations: dict[str, _Text] | None = None


class _Versioned(msgspec.Struct, rename="camel"):
    schema_version: int = 0


class Manifest(msgspec.Struct, rename="camel"):
    schema_version: int
    config: Descriptor
    stated_layers: list[Descriptor] | None = msgspec.field(name="layers")
    """Programs in Go write an empty list as null."""
    media_type: _Text = ""
    annotations: dict[str, _Text] | None = None
    manifests: Any = None

    @property
    def layers(self) -> list[Descriptor]:
        return self.stated_layers or []


class Index(msgspec.Struct, rename="camel"):
    schema_version: int
    manifests: list[Descriptor]
    media_type: _Text = ""
    annotations: dict[str, _Text] | None = None
    config: Any = None
    layers: Any = None


class RootFS(msgspec.Struct):
    type: str
    stated_ids: list[str] | None = msgspec.field(name="diff_ids", default=None)
    """Docker leaves it out where there is no layer."""

    @property
    def diff_ids(self) -> list[str]:
        return self.stated_ids or []


class History(msgspec.Struct):
    created: _Text | None = None
    created_by: _Text | None = None
    author: _Text | None = None
    comment: _Text | None = None
    empty_layer: bool | None = None


class Healthcheck(msgspec.Struct, rename="pascal"):
    test: list[_Text] | None = None
    interval: _Number | None = None
    timeout: _Number | None = None
    start_period: _Number | None = None
    start_interval: _Number | None = None
    retries: _Number | None = None


class ExecConfig(msgspec.Struct, rename="pascal"):
    user: _Text | None = None
    exposed_ports: dict[str, Any] | None = None
    env: list[_Text] | None = None
    entrypoint: list[_Text] | None = None
    cmd: list[_Text] | None = None
    volumes: dict[str, Any] | None = None
    working_dir: _Text | None = None
    labels: dict[str, _Text] | None = None
    stop_signal: _Text | None = None
    shell: list[_Text] | None = None
    on_build: list[_Text] | None = None
    healthcheck: Healthcheck | None = None


class Config(msgspec.Struct):
    rootfs: RootFS
    architecture: _Text = ""
    os: _Text = ""
    variant: _Text | None = None
    created: _Text | None = None
    config: ExecConfig | None = None
    history: list[History] | None = None


_Document = TypeVar("_Document")


def manifest(data: bytes, what: str = "the image manifest") -> Manifest:
    """Check an image manifest (OCI manifest.md, Docker schema 2). ``what`` begins the error message."""
    _schema(_decode(data, _Versioned, what).schema_version, what)
    document = _decode(data, Manifest, what)
    if document.manifests is not None or document.media_type in media.INDEXES:
        raise _ambiguous(what)
    _readable(data, what)
    if len(document.layers) > MAX_LAYERS:
        raise ImageError(f"{what} has {len(document.layers)} layers; the limit is {MAX_LAYERS}")
    _descriptor(document.config, what)
    for layer in document.layers:
        _descriptor(layer, what)
        if layer.media_type not in media.LAYERS:
            raise ImageError(
                f"{what} has a layer of the type {layer.media_type[:100]!r}, which is not a file system",
                hint="encrypted layers and artifacts that are not images cannot be used",
            )
    if document.config.size > MAX_DOCUMENT:
        raise ImageError(f"{what} has a config of {document.config.size} bytes; the limit is {MAX_DOCUMENT}")
    return document


def index(data: bytes, what: str = "the image index") -> Index:
    """Check an image index (OCI image-index.md, Docker manifest list)."""
    document = _decode(data, Index, what)
    _schema(document.schema_version, what)
    if document.config is not None or document.layers is not None or document.media_type in media.MANIFESTS:
        raise _ambiguous(what)
    _readable(data, what)
    for entry in document.manifests:
        _descriptor(entry, what)
    return document


def config(data: bytes, what: str = "the image config") -> Config:
    """Check an image config (OCI config.md)."""
    document = _decode(data, Config, what)
    _readable(data, what)
    if document.rootfs.type != "layers":
        raise ImageError(f"{what} has a rootfs of the type {document.rootfs.type[:100]!r}, not 'layers'")
    for diff_id in document.rootfs.diff_ids:
        _digest(diff_id, what)
    run = document.config
    if run is not None:
        words = [*(run.env or ()), *(run.entrypoint or ()), *(run.cmd or ()), *(run.shell or ())]
        words += [run.user or "", run.working_dir or "", *(run.volumes or ())]
        if any("\0" in word for word in words):
            raise ImageError(f"{what} has a NUL character in a variable, command, user, directory or volume")
    return document


def is_index(data: bytes, media_type: str = "", what: str = "the manifest") -> bool:
    """Whether a document is an index rather than a manifest; the type it is served with may be missing."""
    if media_type in media.INDEXES:
        return True
    if media_type in media.MANIFESTS:
        return False
    kind = _decode(data, dict[str, Any], what)
    return kind.get("mediaType") in media.INDEXES or ("manifests" in kind and "config" not in kind)


def document(data: bytes, what: str) -> Any:
    """Decode any JSON document under the same limits."""
    return _decode(data, object, what)


def descriptor(value: Descriptor, what: str) -> None:
    """Check a descriptor that was decoded as part of another structure."""
    _descriptor(value, what)


def decode(data: bytes, kind: type[_Document], what: str) -> _Document:
    """Decode a document of another shape under the same limits."""
    return _decode(data, kind, what)


def _decode(data: bytes, kind: type[_Document], what: str) -> _Document:
    if len(data) > MAX_DOCUMENT:
        raise ImageError(f"{what} has {len(data)} bytes; the limit is {MAX_DOCUMENT}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise ImageError(f"{what} is invalid: {str(e)[:300]}") from e


def _readable(data: bytes, what: str) -> None:
    """The json module, which reads the document from now on, has limits of its own: digits, nesting."""
    try:
        json.loads(data)
    except (ValueError, RecursionError) as e:
        raise ImageError(f"{what} is invalid: {str(e)[:300]}") from e


def _ambiguous(what: str) -> ImageError:
    # CVE-2021-41190: two readers could see two images under one digest.
    return ImageError(f"{what} has what an index has and what a manifest has: it could be taken for either")


def _schema(version: int, what: str) -> None:
    if version != 2:
        raise ImageError(
            f"{what} has schema version {version}; only version 2 is supported",
            hint="the image was pushed by a tool from before 2017; push it again with a newer one",
        )


def _descriptor(value: Descriptor, what: str) -> None:
    _digest(value.digest, what)


def _digest(value: str, what: str) -> None:
    if not digests.is_valid(value):
        raise ImageError(
            f"{what} holds {value[:100]!r}, which is not a sha256 digest",
            hint="" if value.startswith("sha256:") else "no digest algorithm but sha256 is supported",
        )
