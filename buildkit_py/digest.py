"""Digests and identifiers, each with a type of its own: mixing them up is the bug of this field.

A digest is written ``sha256:<64 hex digits>`` (OCI image spec, descriptor.md#digests).
"""

from __future__ import annotations

import json
from collections.abc import Callable

from buildkit_py.typed import Any, NewType

Digest = NewType("Digest", str)
"""Of a blob, a manifest, a config, a graph node or a cache key."""
DiffID = NewType("DiffID", str)
"""Of an uncompressed layer tar (OCI image spec, config.md#layer-diffid)."""
ChainID = NewType("ChainID", str)
"""Of a stack of layers (OCI image spec, config.md#layer-chainid)."""
SnapshotID = NewType("SnapshotID", str)
"""Of a directory in the snapshot store: random or derived, never a content digest."""

_SMALL = 1 << 16
_HEX = frozenset("0123456789abcdef")
_small: Callable[..., Any] | None = None


def of_bytes(data: bytes) -> Digest:
    return Digest("sha256:" + hasher(len(data))(data).hexdigest())


def hasher(size: int = _SMALL) -> Callable[..., Any]:
    """A sha256 constructor for ``size`` bytes: hashlib's, but for so few that OpenSSL, which it loads, costs
    more time than it saves (the standard library's ``random`` does likewise)."""
    global _small
    if size >= _SMALL:
        from hashlib import sha256

        return sha256
    if _small is None:
        # Once: a module that is not there is looked for anew each time.
        try:
            from _sha2 import sha256 as small  # type: ignore[import-not-found, unused-ignore]  # Python 3.12
        except ImportError:
            try:
                from _sha256 import sha256 as small  # type: ignore[import-not-found, no-redef, unused-ignore]
            except ImportError:
                small = hasher()
        _small = small
    return _small


def is_valid(text: str) -> bool:
    """Whether text is a well-formed sha256 digest. Check every digest that comes from outside."""
    return len(text) == 71 and text.startswith("sha256:") and _HEX.issuperset(text[7:])


def canonical(record: Any) -> bytes:
    """The one serialisation that is hashed: JSON, sorted keys, no white space, UTF-8.

    File names that are not UTF-8 keep their bytes (surrogateescape).
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape")


def of_record(record: Any) -> Digest:
    return of_bytes(canonical(record))


def chain_id(parent: ChainID | None, diff: DiffID) -> ChainID:
    """ChainID(L0) = L0; ChainID(L0|…|Ln) = sha256(ChainID(L0|…|Ln-1) + " " + Ln)."""
    if parent is None:
        return ChainID(diff)
    return ChainID(of_bytes(f"{parent} {diff}".encode()))
