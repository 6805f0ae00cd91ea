"""What a build reads before it can be converted: the Dockerfile, its ignore rules, the contexts.

A context is a directory of this machine, or one of the kinds that buildkit_py.engine.remote opens: a git
repository or a file by HTTP (steps of the build graph fetch them), or a tar, which is unpacked into a
directory for the time of the build.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property

from buildkit_py import textfile
from buildkit_py.errors import DockerfileError, UsageError
from buildkit_py.progress.events import Emit
from buildkit_py.progress.events import ignore as silent
from buildkit_py.request import BuildRequest
from buildkit_py.textfile import MAX_SIZE
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING
from buildkit_py.worker.context import LocalContext

if TYPE_CHECKING:
    from contextlib import ExitStack

    from buildkit_py.engine import Engine
    from buildkit_py.llb.ops import GitSource, HttpSource
    from buildkit_py.source.remote import Remote
    from buildkit_py.worker.ssh import Agents

NAMES = ("Dockerfile", "dockerfile")
IMAGES = ("docker-image://", "oci-layout://")
"""Schemes of named contexts that are images."""


class Services:
    """What the inputs of one build are got with; made when first needed, closed with the build."""

    def __init__(self, engine: Engine | None, request: BuildRequest, emit: Emit) -> None:
        self._engine = engine
        self.request = request
        self.emit = emit
        self._stack: ExitStack | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise UsageError("a context that must be fetched can't be used here", hint="give a directory")
        return self._engine

    @property
    def stack(self) -> ExitStack:
        """What is to be removed when the build ends."""
        if self._stack is None:
            from contextlib import ExitStack

            self._stack = ExitStack()
        return self._stack

    @cached_property
    def remote(self) -> Remote:
        from buildkit_py.engine.remote import make_remote

        return make_remote(self)

    @cached_property
    def agents(self) -> Agents | None:
        """The SSH agents that the command line gives. Raises UsageError for one that is not there."""
        if not self.request.ssh:
            return None
        from buildkit_py.worker.ssh import Agents

        agents = Agents(self.request.ssh, self.engine.root)
        self.stack.callback(agents.close)
        return agents

    def close(self) -> None:
        if self._stack is not None:
            self._stack.close()


class Main(NamedTuple):
    """The build context."""

    directory: str = ""
    """On this machine; "" where there is none."""
    source: GitSource | None = None
    """A step that fetches it."""
    dockerfile: bytes | None = None
    """The context was nothing but a Dockerfile."""
    unpacked: bool = False
    """The directory was made for this build: nothing outside of it is meant, and no .dockerignore applies."""


class BuildFiles(NamedTuple):
    """The opened inputs of a build; ``shown`` is the Dockerfile's path as the user wrote it."""

    main: Main
    dockerfile: bytes
    shown: str
    ignore: tuple[str, ...]
    services: Services
    sources: Mapping[str, GitSource | HttpSource] = {}
    """The contexts that steps of the graph fetch, by name; ``context`` is the build context."""
    ignores: Mapping[str, tuple[str, ...]] = {}
    """The rules of each named context that is a directory."""

    @classmethod
    def open(cls, request: BuildRequest, engine: Engine | None = None, emit: Emit = silent) -> BuildFiles:
        """Raises UsageError, DockerfileError, and what fetching raises. To be closed."""
        services = Services(engine, request, emit)
        try:
            if request.ssh:
                _ = services.agents  # what is not there is told before anything is built
            main = _main(services)
            data, shown, rules = _dockerfile(main, services)
            if len(data) > MAX_SIZE:
                raise DockerfileError(f"{shown} is larger than {MAX_SIZE >> 20} MiB", path=shown)
            files = cls(main, data, shown, rules, services)
            if main.source is not None or request.build_contexts:
                files = files._named()
        except BaseException:
            services.close()
            raise
        return files

    def close(self) -> None:
        """Remove what was made for the build."""
        self.services.close()

    def lines(self) -> tuple[str, ...]:
        """As the parser counts them: a line feed alone ends a line."""
        text = self.dockerfile.decode("utf-8", "replace").removeprefix("\ufeff").removesuffix("\n")
        return tuple(line.rstrip("\r") for line in text.split("\n"))

    def _named(self) -> BuildFiles:
        sources: dict[str, GitSource | HttpSource] = {}
        ignores: dict[str, tuple[str, ...]] = {}
        if self.main.source is not None:
            sources["context"] = self.main.source
        for name, value in self.services.request.build_contexts:
            if value.startswith(IMAGES):
                continue
            if is_remote(value):
                from buildkit_py.engine.remote import source_of

                sources[name] = source_of(value, f"--build-context {name}")
                continue
            directory = _directory(value, f"--build-context {name}: ")
            ignores[name] = _ignore_lines(os.path.join(directory, ".dockerignore"))
        return self._replace(sources=sources, ignores=ignores)


def is_remote(value: str) -> bool:
    """Whether a context's value is a URL of whatever kind."""
    return "://" in value or value.startswith("git@")


def _main(services: Services) -> Main:
    context = services.request.context
    if context == "-" or is_remote(context):
        from buildkit_py.engine.remote import open_main

        return open_main(services)
    if context.startswith("github.com/") and not os.path.exists(context):
        from buildkit_py.engine.remote import source_of

        found = source_of(f"https://{context}", "the build context", git=True)
        return Main(source=found)  # type: ignore[arg-type]
    return Main(_directory(context, ""))


def _directory(path: str, what: str) -> str:
    if not os.path.isdir(path):
        kind = "not a directory" if os.path.exists(path) else "not there"
        raise UsageError(
            f"{what}the build context {path} is {kind}",
            hint="the argument of build is a directory; the Dockerfile is named with -f"
            if not what
            else "give a directory, a git or HTTP URL, docker-image://REF or oci-layout://DIR",
        )
    return os.path.abspath(path)


def _dockerfile(main: Main, services: Services) -> tuple[bytes, str, tuple[str, ...]]:
    """(content, how to show it, the ignore rules for the build context)."""
    request = services.request
    if request.file == "-" or is_remote(request.file) or main.dockerfile is not None or main.source:
        from buildkit_py.engine.remote import read_dockerfile

        data, shown = read_dockerfile(main, services)
        plain = main.directory and not main.unpacked
        return data, shown, _ignore_lines(os.path.join(main.directory, ".dockerignore")) if plain else ()
    if main.unpacked:
        from buildkit_py.engine.remote import read_unpacked

        return (*read_unpacked(main.directory, request.file), ())
    path, shown = _local_dockerfile(main.directory, request.file)
    try:
        data = textfile.read(path)
    except textfile.IrregularError as e:
        hint = "name a file with -f" if os.path.isdir(path) else f"pybuild build -f - PATH < {shown}"
        raise DockerfileError(f"cannot read {shown}: {e.strerror}", path=shown, hint=hint) from e
    except OSError as e:
        raise DockerfileError(
            f"cannot read {shown}: {e.strerror}",
            path=shown,
            hint="name the Dockerfile with -f, and the context's directory as the argument",
        ) from e
    ignores = (f"{path}.dockerignore", os.path.join(main.directory, ".dockerignore"))
    return data, shown, _ignore_lines(*ignores)


def _local_dockerfile(context: str, file: str) -> tuple[str, str]:
    """The Dockerfile's path and how to show it. ``-f`` is relative to the working directory and, where
    nothing is there, to the context."""
    if file:
        inside = os.path.join(context, file)
        path = inside if not os.path.exists(file) and os.path.exists(inside) else file
        return path, file
    for name in NAMES:
        if os.path.lexists(os.path.join(context, name)):
            return os.path.join(context, name), name
    return os.path.join(context, NAMES[0]), NAMES[0]


def _ignore_lines(*paths: str) -> tuple[str, ...]:
    """The rules of the first file that is there: ``<Dockerfile>.dockerignore`` goes before .dockerignore."""
    for path in paths:
        try:
            text = textfile.read(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            raise DockerfileError(f"cannot read {path}: {e.strerror}", path=path) from e
        from buildkit_py.frontends.dockerfile.dockerignore import parse_ignore

        return parse_ignore(text)
    return ()


class Locals:
    """Opens the local contexts of one build."""

    def __init__(self, root: str, files: BuildFiles, request: BuildRequest) -> None:
        self._root = root
        self._files = files
        self._paths = dict(request.build_contexts)

    def open(self, name: str, ignore: tuple[str, ...]) -> LocalContext:
        """Raises PybuildError where there is no such directory."""
        from buildkit_py.source.local import open_context

        main = self._files.main
        path = main.directory if name == "context" else self._paths[name]
        if not path:
            from buildkit_py.source.inline import InlineTree

            return LocalContext(InlineTree(()), None)
        statcache = None
        if not (main.unpacked and name == "context"):
            from buildkit_py.cache.statcache import StatCache

            statcache = StatCache.of_directory(self._root, path)
        ignore += self._store_in(path)
        if not ignore:
            return LocalContext(open_context(path), statcache)
        from buildkit_py.frontends.dockerfile.dockerignore import Matcher

        matcher = Matcher(ignore)
        tree = open_context(path, exclude=matcher.excluded, may_descend=matcher.may_descend)
        return LocalContext(tree, statcache)

    def _store_in(self, path: str) -> tuple[str, ...]:
        """The rule that keeps the store out of a context in which it lies: every build changes it."""
        below = os.path.relpath(os.path.realpath(self._root), os.path.realpath(path))
        if below.split("/")[0] in (".", ".."):
            return ()
        from buildkit_py.worker.pattern import escaped

        return (escaped(below),)
