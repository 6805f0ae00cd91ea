"""References: what people call an image by, and Docker's rules to complete it.

``busybox`` means ``docker.io/library/busybox:latest``. The grammar is that of the distribution project's
reference documentation::

    reference  := [registry "/"] path [":" tag] ["@" digest]
    registry   := host [":" port]      has a "." or ":" or is "localhost" or has capitals; else it is a path
    path       := component ("/" component)*
    component  := [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
    tag        := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
    digest     := "sha256:" 64 hex digits
"""

from __future__ import annotations

import re

from buildkit_py.digest import is_valid
from buildkit_py.errors import UsageError
from buildkit_py.tuples import NamedTuple

DEFAULT_REGISTRY = "docker.io"
_OFFICIAL = "library"
_ALIASES = {"index.docker.io": DEFAULT_REGISTRY, "registry-1.docker.io": DEFAULT_REGISTRY}
_MAX_NAME = 255

# Patterns stay text, compiled by re at their first use: a build of nothing but simple names never needs them,
# and compiling them takes as long as importing this module.
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*\Z"
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::([0-9]{{1,5}}))?\Z"
_SIMPLE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_TAG = _SIMPLE | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_.-")
_MAX_TAG = 128


class Reference(NamedTuple):
    registry: str
    """``docker.io``, ``127.0.0.1:5000``"""
    repository: str
    """Without the registry: ``library/busybox``."""
    tag: str
    """Empty only where there is a digest."""
    digest: str

    def __str__(self) -> str:
        """The normalised form, which names the image in the store."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """As short as Docker shows it: ``busybox:latest``."""
        text = str(self)
        for prefix in (f"{DEFAULT_REGISTRY}/{_OFFICIAL}/", f"{DEFAULT_REGISTRY}/"):
            rest = text.removeprefix(prefix)
            if rest != text and _means(rest, text):
                return rest
        return text

    def with_digest(self, digest: str) -> Reference:
        """The same repository, pinned."""
        return Reference(self.registry, self.repository, "", digest)


def parse(text: str) -> Reference:
    """Complete and check a reference. Raises UsageError, which says what is wrong with it."""
    if not text:
        raise UsageError("an image reference is empty")
    if "://" in text:
        raise _bad(text, "it has a scheme", f"write it without: {text.split('://', 1)[1]}")
    rest, at, digest = text.partition("@")
    if at and not is_valid(digest):
        raise _bad(text, "what follows @ is not a digest", "a digest is written sha256: and 64 hex digits")
    registry, path = _split_registry(rest)
    path, colon, tag = path.partition(":")
    if colon and (not 0 < len(tag) <= _MAX_TAG or tag[0] in ".-" or not _TAG.issuperset(tag)):
        raise _bad(text, f"{tag!r} is not a tag", "a tag has up to 128 letters, digits, '_', '.' and '-'")
    _check(text, registry, path)
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"{_OFFICIAL}/{path}"
    if not colon and not at:
        tag = "latest"
    return Reference(registry, path, tag, digest)


def _split_registry(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return _ALIASES.get(first, first), rest
    return DEFAULT_REGISTRY, text


def _check(text: str, registry: str, path: str) -> None:
    host = registry == DEFAULT_REGISTRY or re.match(_HOST, registry)
    if not host or (host is not True and host[1] and not 0 < int(host[1]) < 65536):
        raise _bad(text, f"{registry!r} is not a registry's host name", "a registry is written host[:port]")
    if not path:
        raise _bad(text, "it has no name", "write NAME[:TAG] or REGISTRY/NAME[:TAG]")
    if len(registry) + len(path) + 1 > _MAX_NAME:
        raise _bad(text, f"its name has more than {_MAX_NAME} characters", "")
    for part in path.split("/"):
        if not (part and _SIMPLE.issuperset(part)) and not re.match(_COMPONENT, part):
            if part != part.lower() and re.match(_COMPONENT, part.lower()):
                raise _bad(text, "the name must be in lower case", f"write {text.lower()!r}")
            raise _bad(
                text,
                f"{part!r} is not allowed in a name",
                "a name has lower-case letters, digits, '.', '_', '-' and '/'",
            )
    if path.count("/") == 0 and is_hex_id(path) and registry == DEFAULT_REGISTRY:
        raise _bad(text, "64 hex digits are an image id, not a name", "give the image another name")


def is_hex_id(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _bad(text: str, why: str, hint: str) -> UsageError:
    shown = text if len(text) < 100 else text[:97] + "..."
    return UsageError(f"invalid image reference {shown!r}: {why}", hint=hint)


def _means(short: str, text: str) -> bool:
    """Whether a shortened name is read as the whole one again: ``0.0/a`` would be a registry's."""
    try:
        return str(parse(short)) == text
    except UsageError:
        return False
