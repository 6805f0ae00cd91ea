"""Where shared caches are kept: ``type=`` of ``--cache-from`` and ``--cache-to``.

Each kind is a module of its own with ``open(attributes, services)`` and one line in KINDS; it is imported
when it is asked for. What all have in common (modes, compression) is not their business: they move an index
and blobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from buildkit_py.digest import Digest
from buildkit_py.errors import ImageError, NotFoundError, UsageError
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.request import CacheSpec
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from buildkit_py.cache.shared import SharedIndex
    from buildkit_py.registry.client import RegistryClient

Write = Callable[[bytes], object]
Make = Callable[[Write], LayerBlob]
"""Writes a blob's bytes to a callable, from any thread, and says what they were."""


class Backend(Protocol):
    """One cache. Called from several threads. Raises RegistryError, NotFoundError, ImageError, StoreError,
    UsageError."""

    shown: str
    """What messages call it."""
    place: tuple[str, str] | None
    """(registry, repository), of a cache that is in one."""
    writers: int
    """Blobs that it takes at once."""

    def read_index(self) -> SharedIndex | None:
        """None where there is no cache so far."""
        ...

    def has(self, blob: LayerBlob) -> bool: ...

    def read_blob(self, blob: LayerBlob) -> Iterator[bytes]:
        """Its bytes; ends normally only where digest and size are right."""
        ...

    def write_blob(self, make: Make) -> LayerBlob:
        """Store what ``make`` writes; it may be called again where an attempt fails."""
        ...

    def write_index(self, config: bytes, manifest: bytes) -> None:
        """Let the cache be this from now on, whole or not at all. Its blobs are there already."""
        ...

    def close(self) -> None:
        """Give up what was held for writing."""
        ...


class UnavailableError(NotFoundError):
    """A blob can't be had or stored now: results that need it are left out of an index."""


class Services(NamedTuple):
    """What backends need of the engine."""

    client: Callable[[], RegistryClient]
    origins: Callable[[Digest], list[tuple[str, str]]]
    """(registry, repository) that were seen to hold a blob."""
    stage: Callable[[], tuple[int, str]]
    """A new file for a blob that is made before it leaves: (descriptor, path)."""


class Kind(NamedTuple):
    module: str
    source: frozenset[str]
    """Fields of ``--cache-from`` that are not SOURCE's."""
    target: frozenset[str]
    """Those of ``--cache-to`` that are not TARGET's."""
    source_needs: tuple[str, ...]
    target_needs: tuple[str, ...]
    library: str = ""
    """That is needed and not installed by default; the extra has the name of the kind."""


WRITERS = 4
"""As many as keep both network and processors busy, and look polite."""
TARGET = frozenset(
    {"mode", "compression", "compression-level", "force-compression", "ignore-error", "oci-mediatypes"}
    | {"image-manifest", "mounts"}
)
SOURCE = frozenset({"mounts"})

KINDS = {
    "registry": Kind("registry", frozenset({"ref"}), frozenset({"ref"}), ("ref",), ("ref",)),
    "local": Kind(
        "local", frozenset({"src", "tag", "digest"}), frozenset({"dest", "tag"}), ("src",), ("dest",)
    ),
}
_S3 = frozenset(
    {"bucket", "region", "name", "prefix", "endpoint_url", "use_path_style", "blobs_prefix"}
    | {"manifests_prefix", "access_key_id", "secret_access_key", "session_token"}
)
_GHA = frozenset({"url", "url_v2", "token", "scope", "timeout", "version"})
KINDS["gha"] = Kind("gha", _GHA, _GHA, (), ())
KINDS["s3"] = Kind("s3", _S3, _S3 | {"upload_parallelism", "touch_refresh"}, (), (), "boto3")


class _Module(Protocol):
    def check(self, attributes: Mapping[str, str], writing: bool) -> None:
        """Raises UsageError for values that make no sense."""
        ...

    def open(self, attributes: Mapping[str, str], services: Services) -> Backend: ...


def check_source(spec: CacheSpec) -> None:
    """Raises UsageError for a ``--cache-from`` that makes no sense."""
    if spec.kind == "inline":
        raise UsageError(
            "--cache-from: type=inline is for --cache-to",
            hint="the cache is in the image: --cache-from type=registry,ref=IMAGE",
        )
    kind = _kind(spec, "--cache-from")
    _check(spec, "--cache-from", kind.source | SOURCE, kind.source_needs)
    _module(spec).check(dict(spec.attributes), False)
    if spec.get("mounts", "true").lower() not in ("true", "false", "1", "0", ""):
        raise UsageError("--cache-from: mounts is true or false")


def check_target(spec: CacheSpec) -> None:
    """Raises UsageError for a ``--cache-to`` that makes no sense."""
    if spec.kind == "inline":
        _check(spec, "--cache-to", frozenset({"ignore-error"}))
    else:
        kind = _kind(spec, "--cache-to")
        _check(spec, "--cache-to", kind.target | TARGET, kind.target_needs)
        _module(spec).check(dict(spec.attributes), True)


def _kind(spec: CacheSpec, option: str) -> Kind:
    kind = KINDS.get(spec.kind)
    if kind is None:
        known = ", ".join([*KINDS, "inline"])
        raise UsageError(f"{option}: there is no type={spec.kind}", hint=f"types: {known}")
    if kind.library:
        from importlib.util import find_spec

        if find_spec(kind.library) is None:
            hint = f"pip install 'buildkit-py[{spec.kind}]'"
            raise UsageError(f"{option}: type={spec.kind} needs {kind.library}, which is not here", hint=hint)
    return kind


def _check(spec: CacheSpec, option: str, known: frozenset[str], needed: tuple[str, ...] = ()) -> None:
    given = dict(spec.attributes)
    unknown = sorted(set(given) - known)
    if unknown:
        raise UsageError(
            f"{option}: type={spec.kind} has no field {unknown[0]!r}",
            hint=f"fields: {', '.join(sorted(known)) or 'none'}",
        )
    for name in needed:
        if not given.get(name):
            raise UsageError(f"{option}: type={spec.kind} needs {name}=")


def open_backend(spec: CacheSpec, services: Services) -> Backend:
    """Raises UsageError where what the kind needs is not installed or not given."""
    return _module(spec).open(dict(spec.attributes), services)


def _module(spec: CacheSpec) -> _Module:
    from importlib import import_module

    return cast(_Module, import_module(f"buildkit_py.cache.backends.{KINDS[spec.kind].module}"))


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str, name: str) -> float:
    """Seconds of ``24h``, ``10m`` or ``90s``. Raises UsageError."""
    try:
        return float(text[:-1]) * _UNITS[text[-1:]]
    except (ValueError, KeyError) as e:
        raise UsageError(f"{name}={text} is not a duration", hint="for example 24h or 10m") from e


def verified(chunks: Iterable[bytes], blob: LayerBlob, shown: str) -> Iterator[bytes]:
    """What passes, and an error at the end where it is not the blob. Raises ImageError."""
    from hashlib import sha256

    hashed, size = sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > blob.size:
            break
        hashed.update(chunk)
        yield chunk
    if size != blob.size or "sha256:" + hashed.hexdigest() != blob.digest:
        raise ImageError(f"the blob {blob.digest} of {shown} is damaged")
