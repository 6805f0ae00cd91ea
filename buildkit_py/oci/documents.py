"""The OCI documents as plain dicts, typed: what the json module gives for bytes that were checked once.

Images of our own making and documents that passed buildkit_py.oci.validate are read through these.
"""

from __future__ import annotations

import json

from buildkit_py.oci import platform
from buildkit_py.oci.platform import Platform
from buildkit_py.typed import Any, NotRequired, TypedDict, cast


class PlatformDict(TypedDict):
    architecture: str
    os: str
    variant: NotRequired[str]


class DescriptorDict(TypedDict):
    mediaType: str
    digest: str
    size: int
    platform: NotRequired[PlatformDict]
    annotations: NotRequired[dict[str, str]]


class ManifestDict(TypedDict):
    schemaVersion: int
    mediaType: NotRequired[str]
    config: DescriptorDict
    layers: list[DescriptorDict]
    annotations: NotRequired[dict[str, str]]


class IndexDict(TypedDict):
    schemaVersion: int
    mediaType: NotRequired[str]
    manifests: list[DescriptorDict]
    annotations: NotRequired[dict[str, str]]


def manifest(data: bytes) -> ManifestDict:
    return cast(ManifestDict, json.loads(data))


def index(data: bytes) -> IndexDict:
    return cast(IndexDict, json.loads(data))


def config(data: bytes) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(data))


def select(entries: list[DescriptorDict], wanted: Platform) -> DescriptorDict | None:
    """The entry of an index that fits a platform best: the first of the best rank.

    An entry without a platform serves only where no other fits. Attestations are listed as
    ``unknown/unknown`` and never fit.
    """
    best: DescriptorDict | None = None
    best_rank = 1 << 30
    for entry in entries:
        offered = entry.get("platform")
        if offered is None:
            rank = 1000
        else:
            fields = (offered["os"], offered["architecture"], offered.get("variant") or "")
            rank = platform.rank(wanted, platform.normalised(*fields))
        if 0 <= rank < best_rank:
            best, best_rank = entry, rank
    return best


def platforms(entries: list[DescriptorDict]) -> list[str]:
    """What an index offers, for messages."""
    found = [entry["platform"] for entry in entries if entry.get("platform")]
    names = [str(platform.normalised(p["os"], p["architecture"], p.get("variant") or "")) for p in found]
    return sorted({name for name in names if not name.startswith("unknown/")})


def platform_of(config: dict[str, Any]) -> PlatformDict:
    """As an index names it (OCI image-index.md)."""
    found: PlatformDict = {
        "architecture": config.get("architecture") or "",
        "os": config.get("os") or "linux",
    }
    if config.get("variant"):
        found["variant"] = config["variant"]
    return found
