"""Platforms: ``os/arch[/variant]`` as in OCI image-index.md, with Docker's names and defaults.

A platform flows as its text, normalised: ``linux/amd64``, ``linux/arm64`` (never ``/v8``, its default),
``linux/arm/v7``.
"""

from __future__ import annotations

import os

from buildkit_py.errors import UsageError
from buildkit_py.tuples import NamedTuple

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
}
"""What uname(2), Debian and people say, as GOARCH and variant."""
_DEFAULT_VARIANT = {("arm64", "v8"): "", ("arm64", "8"): "", ("amd64", "v1"): "", ("arm", ""): "v7"}
_SYSTEMS = {"macos": "darwin"}
_KNOWN_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd"})
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Platform(NamedTuple):
    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def normalised(system: str, architecture: str, variant: str = "") -> Platform:
    system = system.lower() or "linux"
    arch = architecture.lower()
    known, implied = _ARCHITECTURES.get(arch, (arch, ""))
    variant = variant.lower() or implied
    if variant.isdigit():
        variant = "v" + variant
    return Platform(_SYSTEMS.get(system, system), known, _DEFAULT_VARIANT.get((known, variant), variant))


def parse(text: str) -> Platform:
    """Read ``os/arch[/variant]``, ``os`` or ``arch`` alone. Raises UsageError."""
    parts = text.split("/")
    if len(parts) > 3 or not all(p and _WORD.issuperset(p) for p in parts):
        raise UsageError(
            f"not a platform: {text!r}",
            hint="a platform is written os/arch[/variant], as linux/amd64 or linux/arm/v7",
        )
    if len(parts) == 1:
        if parts[0].lower() in _KNOWN_SYSTEMS:
            return normalised(parts[0], host().architecture, host().variant)
        return normalised("linux", parts[0])
    return normalised(*parts)


def host() -> Platform:
    """The platform that this machine runs natively."""
    uname = os.uname()
    return normalised(uname.sysname, uname.machine)


def rank(wanted: Platform, offered: Platform) -> int:
    """How well an offer fits: 0 exactly; higher is worse; -1 not at all.

    An ARM processor runs older variants too: v7 takes v6, then v5; an amd64 of level v3 takes v2, then
    the plain one. A variant that is missing elsewhere fits any.
    """
    if wanted[:2] != offered[:2]:
        return -1
    if wanted.variant == offered.variant:
        return 0
    if not offered.variant:
        return 50
    if not wanted.variant:
        return -1 if wanted.architecture == "amd64" else 50
    behind = _level(wanted.variant) - _level(offered.variant)
    return behind if behind > 0 and wanted.architecture in ("arm", "amd64") else -1


def matches(wanted: Platform, offered: Platform) -> bool:
    return rank(wanted, offered) >= 0


def _level(variant: str) -> int:
    digits = variant.lstrip("v")
    return int(digits) if digits.isdigit() and len(digits) < 4 else 0
