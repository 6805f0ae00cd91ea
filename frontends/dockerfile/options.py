"""What a build adds to its Dockerfile."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.errors import UsageError
from buildkit_py.llb.ops import GitSource, HttpSource
from buildkit_py.tuples import NamedTuple


class ConvertOptions(NamedTuple):
    """What a build adds to its Dockerfile."""

    build_args: Mapping[str, str] = {}
    target: str = ""
    """Name or index of a stage; empty: the last one."""
    platforms: tuple[str, ...] = ()
    """Empty: the host's."""
    labels: Mapping[str, str] = {}
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    """Names (or indexes) of stages that are built without the cache."""
    ignore: tuple[str, ...] = ()
    """Lines of the .dockerignore that applies to the build context."""
    contexts: Mapping[str, str] = {}
    """Named contexts: name -> a directory, ``docker-image://ref``, …"""
    context_ignores: Mapping[str, tuple[str, ...]] = {}
    """Lines of the .dockerignore of each local named context."""
    sources: Mapping[str, GitSource | HttpSource] = {}
    """The contexts that are fetched: name -> how; ``context`` is the build context."""
    network: str = "default"
    """Of RUN steps without ``--network``."""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[tuple[str, int, int], ...] = ()
    allow: tuple[str, ...] = ()
    """Entitlements: ``network.host``, ``security.insecure``, ``device``."""
    source_date_epoch: int | None = None
    proxy: Mapping[str, str] = {}
    """Proxy variables for RUN; build arguments of the same names come before them."""
    hostname: str = ""


def context_image(value: str) -> str | None:
    """What to ask the resolver for where a named context is an image; None where it is a tree."""
    if value.startswith("oci-layout://"):
        return value
    return value.removeprefix("docker-image://") if value.startswith("docker-image://") else None


def epoch(options: ConvertOptions) -> int:
    """SOURCE_DATE_EPOCH in seconds; 0 where there is none. Raises UsageError."""
    if options.source_date_epoch is not None:
        return options.source_date_epoch
    text = options.build_args.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"SOURCE_DATE_EPOCH is not a number of seconds since 1970: {text!r}")
    return int(text[:20])


_LAST = 253402300799
"""The end of the year 9999, the last that RFC 3339 can write."""


def timestamp(seconds: int) -> str:
    """RFC 3339, as image configs write times."""
    import time

    if seconds > _LAST:
        raise UsageError(f"SOURCE_DATE_EPOCH is out of range: {seconds}", hint="seconds, not milliseconds")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
