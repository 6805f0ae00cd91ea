"""What all kinds of ``--cache-to`` have in common."""

from __future__ import annotations

from buildkit_py.errors import UsageError
from buildkit_py.layer.compress import COMPRESSION, Method
from buildkit_py.request import CacheSpec
from buildkit_py.tuples import NamedTuple


class Options(NamedTuple):
    mode: str = "min"
    method: Method | None = None
    """None: as a layer is known, else gzip."""
    level: int | None = None
    force: bool = False
    """Layers that came with another compression are compressed again."""
    mounts: frozenset[str] | None = frozenset()
    """Ids of the cache mounts that go along; None: all."""


def parse_options(spec: CacheSpec) -> Options:
    """Raises UsageError."""
    mode = spec.get("mode", "min")
    if mode not in ("min", "max"):
        raise UsageError(f"--cache-to: mode={mode} is not known", hint="min or max")
    method = spec.get("compression")
    if method and method not in COMPRESSION:
        raise UsageError(
            f"--cache-to: compression={method} is not known", hint=f"one of {', '.join(COMPRESSION)}"
        )
    level = spec.get("compression-level")
    if level and not (level.isascii() and level.isdigit() and len(level) < 3):
        raise UsageError("--cache-to: compression-level must be a number")
    for name in ("oci-mediatypes", "image-manifest"):
        if not _flag(spec, name, True):
            raise UsageError(
                f"--cache-to: {name}=false is not supported",
                hint="a cache is written as an OCI image manifest, which every registry takes",
            )
    _flag(spec, "ignore-error", True)
    return Options(
        mode,
        COMPRESSION[method] if method else None,
        int(level) if level else None,
        _flag(spec, "force-compression", False),
        _mounts(spec.get("mounts", "false")),
    )


def _mounts(text: str) -> frozenset[str] | None:
    """true, false, or ids separated by semicolons or (in a quoted field) commas."""
    if text.lower() in ("true", "1", ""):
        return None
    if text.lower() in ("false", "0"):
        return frozenset()
    return frozenset(part.strip() for part in text.replace(";", ",").split(",") if part.strip())


def _flag(spec: CacheSpec, name: str, default: bool) -> bool:
    value = spec.get(name, str(default)).lower()
    if value not in ("true", "false", "1", "0", ""):
        raise UsageError(f"--cache-to: {name} is true or false")
    return value not in ("false", "0")
