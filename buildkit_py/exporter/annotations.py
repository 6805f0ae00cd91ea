"""Annotations of what an image is made of: ``--annotation`` and the attributes ``annotation….KEY``.

A manifest and an index hold annotations of their own; so does each descriptor that leads to one: an entry of
an index to a manifest, an entry of an OCI layout's index.json to what the layout holds. An image's config has
none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, cast, get_args

from buildkit_py.errors import UsageError
from buildkit_py.oci import platform
from buildkit_py.tuples import NamedTuple

Place = Literal["manifest", "index", "manifest-descriptor", "index-descriptor"]
CREATED = "org.opencontainers.image.created"
_PLACES = get_args(Place)
_PLACE = r"([a-z-]+)(?:\[([A-Za-z0-9/._-]+)\])?"
_ATTRIBUTE = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9/._-]+)\])?\.(.+)")
_HINT = "[TYPE[PLATFORM]:]KEY=VALUE, TYPE one of " + ", ".join(_PLACES)


class Annotation(NamedTuple):
    place: Place
    platform: str
    """Of one platform alone, as ``os/arch[/variant]``; "": of each."""
    key: str
    value: str


def of_options(given: Iterable[tuple[str, str]]) -> tuple[Annotation, ...]:
    """What ``--annotation`` gives, as (what stands before the first ``=``, what stands behind it).

    ``TYPE,TYPE:KEY`` means several places. Raises UsageError.
    """
    found: list[Annotation] = []
    for name, value in given:
        head, colon, key = name.rpartition(":")
        for place in re.split(r",(?![^\[]*\])", head) if colon else ["manifest"]:
            match = re.fullmatch(_PLACE, place)
            if match is None or not key:
                raise UsageError(f"--annotation {name}={value}: not of the form TYPE:KEY=VALUE", hint=_HINT)
            found.append(_made(match[1], match[2] or "", key, value, f"--annotation {name}"))
    return tuple(found)


def of_attribute(name: str, value: str) -> Annotation | None:
    """What an output's attribute ``annotation[-TYPE][[PLATFORM]].KEY`` gives; None for another attribute."""
    match = _ATTRIBUTE.fullmatch(name)
    if match is None:
        return None
    return _made(match[1] or "manifest", match[2] or "", match[3], value, f"the attribute {name}")


def select(annotations: Sequence[Annotation], place: Place, wanted: str = "") -> dict[str, str]:
    """Those of one place, for a platform; of several with one key the last counts."""
    return {a.key: a.value for a in annotations if a.place == place and a.platform in ("", wanted)}


def _made(place: str, wanted: str, key: str, value: str, what: str) -> Annotation:
    if place not in _PLACES:
        raise UsageError(f"{what}: there are no annotations of a {place!r}", hint=_HINT)
    if wanted and place.startswith("index"):
        raise UsageError(f"{what}: an index is of no platform", hint=f"{place}:{key}={value}")
    return Annotation(cast(Place, place), str(platform.parse(wanted)) if wanted else "", key, value)
