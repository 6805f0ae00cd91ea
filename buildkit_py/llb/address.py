"""URLs as people may see them."""

from __future__ import annotations

_MAX_SHOWN = 300


def public(url: str) -> str:
    """A URL without its login. An ssh user stays: it is a name alone, and a part of the address."""
    scheme, sep, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if not sep or "@" not in authority or scheme not in ("http", "https"):
        return url
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def shown(url: str) -> str:
    """As public(), without control characters and what is too long: for messages."""
    return "".join(c if c.isprintable() else "?" for c in public(url))[:_MAX_SHOWN]
