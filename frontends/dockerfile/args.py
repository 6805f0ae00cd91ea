"""ARG and ENV: the variables that exist without being declared, and a stage's scope.

Rules: Dockerfile reference, "Scope", "Using ARG variables", "Predefined ARGs", "Automatic platform
ARGs in the global scope".
"""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.frontends.dockerfile.platform import Platform

PROXY = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Reach RUN without any ARG and stay out of cache keys and history unless declared."""


def automatic(target: Platform, build: Platform, stage: str, given: Mapping[str, str]) -> dict[str, str]:
    """The automatic ARGs of the global scope. ``given`` are build arguments, which override them."""
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        values[prefix + "PLATFORM"] = str(platform)
        values[prefix + "OS"] = platform.os
        values[prefix + "ARCH"] = platform.arch
        values[prefix + "VARIANT"] = platform.variant
    values["TARGETSTAGE"] = stage or "default"
    for name in values.keys() & given.keys():
        values[name] = given[name]
    return values


class Scope:
    """The variables of one stage, as its next instruction sees them.

    ``values`` holds ENV and every ARG with a value; the last writer wins, whichever of the two it is.
    ``declared`` holds the ARGs in the order of declaration, None where there is no value.
    """

    __slots__ = ("declared", "values")

    def __init__(self, values: dict[str, str], declared: dict[str, str | None]) -> None:
        self.values = values
        self.declared = declared

    def child(self) -> Scope:
        """Of a stage built on this one: it inherits ARGs too."""
        return Scope(dict(self.values), dict(self.declared))

    def set_env(self, name: str, value: str) -> None:
        self.values[name] = value

    def declare(self, name: str, value: str | None) -> None:
        self.declared.pop(name, None)
        self.declared[name] = value
        if value is not None:
            self.values[name] = value

    def history(self) -> list[str]:
        """``K=V`` of every declared ARG that has a value, for RUN's ``|N K=V …``."""
        found = []
        for name, value in self.declared.items():
            value = self.values.get(name, value)
            if value is not None:
                found.append(f"{name}={value}")
        return found


def split(word: str) -> tuple[str, str | None]:
    """``A=b`` -> ("A", "b"); ``A`` -> ("A", None). Quotes and variables are left as they are."""
    name, equals, value = word.partition("=")
    return name, value if equals else None
