"""From a parsed Dockerfile to a build graph and image configs: the way in."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.errors import DockerfileError, UsageError
from buildkit_py.frontends.dockerfile import external, parser, platform, semantics
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Range
from buildkit_py.frontends.dockerfile.conversion import Conversion, Resolver
from buildkit_py.frontends.dockerfile.lexer import Lexer
from buildkit_py.frontends.dockerfile.options import ConvertOptions
from buildkit_py.frontends.dockerfile.platform import Platform
from buildkit_py.llb.graph import Graph
from buildkit_py.llb.result import FrontendResult, ImageResolver, Warning
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.outline import Outline

__all__ = ["ConvertOptions", "convert", "examine", "lint", "outline", "read"]


def read(data: bytes, path: str, build_args: Mapping[str, str]) -> Dockerfile:
    """Parse what this frontend is asked to build. Raises DockerfileError; UnsupportedError where the file
    asks for another frontend."""
    lexer = Lexer(data, path)
    external.check(lexer, build_args)
    return parser.read_all(lexer)


def convert(dockerfile: Dockerfile, options: ConvertOptions, images: ImageResolver) -> FrontendResult:
    """Convert what ``options.target`` needs. Raises DockerfileError, UsageError, RegistryError.

    Findings of build checks are the result's warnings; where the file makes them errors, they are raised.
    """
    wanted = _accept(dockerfile, options)
    graph = Graph()
    resolve = Resolver(images)
    several = len(wanted) > 1
    conversions = [Conversion(dockerfile, options, resolve, graph, p, several=several) for p in wanted]
    targets = tuple(conversion.target() for conversion in conversions)
    warnings = _warnings(conversions[0])
    if any(warning.error for warning in warnings):
        _fail_checks(conversions[0], warnings)
    return FrontendResult(graph, targets, warnings)


def lint(dockerfile: Dockerfile, options: ConvertOptions, images: ImageResolver) -> tuple[Warning, ...]:
    """What the build checks find, whatever the target; nothing is raised for them. Raises as convert does."""
    warnings, error = examine(dockerfile, options, images)
    if error is not None:
        raise error
    return warnings


def examine(
    dockerfile: Dockerfile, options: ConvertOptions, images: ImageResolver
) -> tuple[tuple[Warning, ...], DockerfileError | None]:
    """For ``--check``: what the build checks find in all stages, and the first thing that makes one of them
    impossible to build (an image that isn't there, say). Raises DockerfileError where nothing can be said."""
    wanted = _accept(dockerfile, options)
    conversion = Conversion(dockerfile, options, Resolver(images), Graph(), wanted[0])
    failure: DockerfileError | None = None
    for stage in conversion.stages:
        try:
            conversion.state(stage, stage.instructions[0])
        except DockerfileError as error:
            failure = failure or error
    return _warnings(conversion), failure


def outline(dockerfile: Dockerfile, options: ConvertOptions, images: ImageResolver) -> Outline:
    """What the target takes from outside. For ``--call outline``. Raises as ``convert`` does."""
    from buildkit_py.frontends.dockerfile.outline import outline as of

    wanted = _accept(dockerfile, options)
    return of(Conversion(dockerfile, options, Resolver(images), Graph(), wanted[0]))


def _accept(dockerfile: Dockerfile, options: ConvertOptions) -> tuple[Platform, ...]:
    """Refuse what can't be converted; the platforms to convert for."""
    problem = semantics.check(dockerfile)
    if problem is not None:
        raise problem
    return tuple(dict.fromkeys(_platform(p) for p in options.platforms)) or (platform.host(),)


def _warnings(conversion: Conversion) -> tuple[Warning, ...]:
    from buildkit_py.frontends.dockerfile import checks

    return checks.run(conversion)


def _fail_checks(conversion: Conversion, warnings: tuple[Warning, ...]) -> None:
    rules = ", ".join(dict.fromkeys(warning.rule for warning in warnings))
    lines = [f"line {warning.start}: {warning.message} ({warning.rule})" for warning in warnings]
    place = Range(warnings[0].start, warnings[0].end)
    raise conversion.fail(place, f"build checks that are errors in this file: {rules}", hint="\n".join(lines))


def _platform(text: str) -> Platform:
    try:
        return platform.parse(text)
    except ValueError as error:
        raise UsageError(f"--platform: {error}", hint="for example linux/amd64 or linux/arm64") from None
