"""Platforms as ``os/arch[/variant]`` (OCI image index, property ``platform``), normalised as Docker does."""

from __future__ import annotations

import os

from buildkit_py.tuples import NamedTuple

_ARCH = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
"""Other names of an architecture, uname(2)'s among them -> (GOARCH, variant)."""

_KNOWN_OS = frozenset(
    ("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "aix", "plan9", "wasi", "js")
)
_KNOWN_ARCH = frozenset(
    (
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le",
        "ppc64", "ppc64le", "riscv64", "s390x", "wasm",
    )
)  # fmt: skip


class Platform(NamedTuple):
    os: str
    arch: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(self) if self.variant else f"{self.os}/{self.arch}"


def parse(text: str) -> Platform:
    """``linux/arm64/v8`` -> Platform, normalised; ``arm64`` and ``linux`` alone are filled up. ``local`` is
    this machine's.

    Raises ValueError with a message for a person.
    """
    parts = text.strip().lower().split("/")
    if parts == ["local"]:
        return host()
    if not all(parts) or len(parts) > 3:
        raise ValueError(f"{text!r} is not a platform: expected os/arch or os/arch/variant")
    for part in parts:
        if not part.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ValueError(f"{text!r} is not a platform: {part!r} is not a valid component")
    if len(parts) == 1:
        if parts[0] in _KNOWN_OS:
            return Platform(parts[0], host().arch, host().variant)
        arch, variant = _architecture(parts[0], "")
        if arch not in _KNOWN_ARCH:
            raise ValueError(f"{text!r} is neither a known operating system nor a known architecture")
        return Platform("linux", arch, variant)
    if len(parts) == 2 and parts[0] not in _KNOWN_OS and _architecture(parts[0], "")[0] in _KNOWN_ARCH:
        parts.insert(0, "linux")
    arch, variant = _architecture(parts[1], parts[2] if len(parts) == 3 else "")
    return Platform("darwin" if parts[0] == "macos" else parts[0], arch, variant)


def _architecture(arch: str, variant: str) -> tuple[str, str]:
    arch, implied = _ARCH.get(arch, (arch, ""))
    variant = variant or implied
    if arch == "arm64" and variant in ("8", "v8"):
        variant = ""
    elif arch == "arm":
        variant = "v7" if not variant else "v" + variant.removeprefix("v")
    elif arch == "amd64" and variant == "v1":
        variant = ""
    return arch, variant


def host() -> Platform:
    """This machine's, from uname(2)."""
    arch, variant = _architecture(os.uname().machine, "")
    return Platform("linux", arch, variant)


def of_config(config: dict[str, object]) -> Platform | None:
    """The platform that an image's config document states; None where it states none."""
    system, arch, variant = config.get("os"), config.get("architecture"), config.get("variant")
    if not (isinstance(system, str) and isinstance(arch, str) and system and arch):
        return None
    arch, variant = _architecture(arch, variant if isinstance(variant, str) else "")
    return Platform(system, arch, variant)
