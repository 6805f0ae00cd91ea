"""``# check=skip=A,B;error=true;experimental=C``: at the top of the file, or over one instruction (skip)."""

from __future__ import annotations

from buildkit_py.errors import UsageError
from buildkit_py.frontends.dockerfile.ast import Dockerfile
from buildkit_py.frontends.dockerfile.lexer import check_problem
from buildkit_py.tuples import NamedTuple


class Settings(NamedTuple):
    skip: frozenset[str] = frozenset()
    """Names of rules in lower case, or ``all``."""
    error: bool = False
    experimental: frozenset[str] = frozenset()

    def skips(self, rule: str) -> bool:
        return "all" in self.skip or rule.lower() in self.skip

    def enables(self, rule: str) -> bool:
        return "all" in self.experimental or rule.lower() in self.experimental


def parse(text: str) -> Settings:
    """Lenient: what the lexer lets pass in a directive, and anything in a comment."""
    values: dict[str, str] = {}
    for option in text.split(";"):
        key, _, value = option.partition("=")
        values[key.strip().lower()] = value.strip().lower()
    return Settings(
        _names(values.get("skip", "")),
        values.get("error", "") in ("1", "t", "true"),
        _names(values.get("experimental", "")),
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(name for word in text.split(",") if (name := word.strip()))


def of_file(dockerfile: Dockerfile, override: str | None) -> Settings:
    """``override``: the build argument BUILDKIT_DOCKERFILE_CHECK, which comes before the directive.

    Raises UsageError for one that is wrong.
    """
    if override is not None:
        problem = check_problem(override) if override else ""
        if problem:
            raise UsageError(f"--build-arg BUILDKIT_DOCKERFILE_CHECK: {problem}")
        return parse(override)
    for name, value, _ in dockerfile.directives:
        if name == "check":
            return parse(value)
    return Settings()


def of_instructions(dockerfile: Dockerfile) -> dict[int, Settings]:
    """First line of an instruction -> the settings of the comments directly above it."""
    found: dict[int, Settings] = {}
    for instruction in dockerfile.instructions:
        for comment in instruction.comments:
            if comment.startswith("check="):
                found[instruction.range.start] = parse(comment[len("check=") :])
    return found
