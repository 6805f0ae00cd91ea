"""Contexts and Dockerfiles from elsewhere: standard input, git repositories, files by HTTP.

What a stream holds is told by its content, not by its name: a tar (compressed or not) is a context, anything
else is a Dockerfile without a context.
"""

from __future__ import annotations

import os
import time

from buildkit_py.archive import compression
from buildkit_py.engine.contexts import NAMES, Main, Services, is_remote
from buildkit_py.errors import DockerfileError, PybuildError, UsageError
from buildkit_py.frontends.dockerfile.instructions.add import is_git, is_url, parse_git
from buildkit_py.llb.address import shown
from buildkit_py.llb.ops import GitSource, HttpSource
from buildkit_py.progress.events import VertexEvent, told
from buildkit_py.textfile import MAX_SIZE
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from buildkit_py.archive.compression import Readable
    from buildkit_py.source.remote import Remote

_STDIN = "-"
_ON = ("1", "t", "true")


def make_remote(services: Services) -> Remote:
    """What fetches, with what this build's command line allows it to use."""
    from buildkit_py.source.git import Repositories
    from buildkit_py.source.gitcommand import Access
    from buildkit_py.source.http import HttpFiles
    from buildkit_py.source.remote import Remote
    from buildkit_py.worker.context import Secret

    engine, request = services.engine, services.request
    given = (request.context, *(value for _, value in request.build_contexts))
    local = frozenset(source_of(v, "").url for v in given if _is_repository(v))
    secrets = {s.id: Secret(s.id, s.source, s.env) for s in request.secrets}

    def secret(name: str) -> str:
        try:
            return secrets[name].read().decode("utf-8", "surrogateescape") if name in secrets else ""
        except OSError as e:
            raise PybuildError(f"the secret {name!r} cannot be read: {e}") from e

    def agent() -> str:
        return services.agents.socket("default") if services.agents is not None else ""

    return Remote(
        HttpFiles(engine.content, engine.db), Repositories(engine.root, Access(local, agent, secret))
    )


def _is_repository(value: str) -> bool:
    return is_git(value) or value.startswith("file://")


def source_of(value: str, what: str, *, git: bool = False) -> GitSource | HttpSource:
    """The step that fetches what a URL names. ``what``: whose it is. Raises UsageError."""
    if git or _is_repository(value):
        try:
            return parse_git(value)
        except ValueError as e:
            raise UsageError(f"{what}: {value}: {e}") from e
    if is_url(value):
        return HttpSource(value)
    scheme = value.partition("://")[0]
    raise UsageError(
        f"{what}: {scheme}:// is not a kind of context",
        hint="give a directory, a git or HTTP URL, docker-image://REF or oci-layout://DIR",
    )


def open_main(services: Services) -> Main:
    """The build context where it is ``-`` or a URL."""
    request = services.request
    if request.context == _STDIN:
        if request.file == _STDIN:
            raise UsageError(
                "both the context and the Dockerfile are to be read from standard input",
                hint="give one of them as a path",
            )
        return _streamed(_Stdin(), services)
    found = source_of(request.context, "the build context")
    if isinstance(found, GitSource):
        keep = dict(request.build_args).get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "").lower() in _ON
        return Main(source=found._replace(keep_git_dir=found.keep_git_dir or keep))
    http = services.remote.http
    with _Step(services, f"[internal] load remote build context {shown(found.url)}") as vertex:
        file = http.get(found.url, services.emit, vertex)
        file = http.ensure(found.url, file.digest, services.emit, vertex)
        with open(http.path(file), "rb", buffering=0) as stream:
            return _streamed(stream, services)


def _streamed(stream: Readable, services: Services) -> Main:
    """A tar becomes a directory until the build ends; anything else is a Dockerfile."""
    head, whole = compression.peek(stream)
    if not head:
        raise UsageError("the build context is empty", hint="pass a tar or a Dockerfile")
    tar: Readable | None = whole
    kind = compression.detect(head)
    if kind != "none" or compression.is_tar(head):
        tar = compression.open_archive(whole)
        if tar is None:
            raise UsageError(f"the build context is {kind} data, but no tar")
        return Main(_unpacked(tar, services), unpacked=True)
    if services.request.file:
        raise UsageError(
            "the build context is a Dockerfile, and -f names another", hint="leave one of them out"
        )
    return Main(dockerfile=_all(whole, "the Dockerfile"))


def _unpacked(tar: Readable, services: Services) -> str:
    from buildkit_py.source.tarcontext import unpack
    from buildkit_py.source.temporary import TemporaryDirectory

    engine = services.engine
    # Files that nobody may read belong to us, but only our own root reads them.
    engine.enter()
    directory = services.stack.enter_context(TemporaryDirectory(engine.root)).path
    with _Step(services, "[internal] load build context"):
        unpack(tar, directory, engine.identity)
    return directory


def read_dockerfile(main: Main, services: Services) -> tuple[bytes, str]:
    """(content, how to show it) of a Dockerfile that isn't a file of this machine."""
    file = services.request.file
    if file == _STDIN:
        return _all(_Stdin(), "the Dockerfile"), "Dockerfile"
    if is_remote(file):
        if not is_url(file):
            raise UsageError(f"-f {file}: a Dockerfile is a file or an http(s) URL")
        return _downloaded(file, services)
    if main.dockerfile is not None:
        return main.dockerfile, NAMES[0]
    assert main.source is not None
    return _committed(main.source, file, services)


def _downloaded(url: str, services: Services) -> tuple[bytes, str]:
    http = services.remote.http
    name = shown(url)
    with _Step(services, f"[internal] load remote Dockerfile {name}") as vertex:
        found = http.get(url, services.emit, vertex)
        if found.size > MAX_SIZE:
            raise DockerfileError(f"{name} is larger than {MAX_SIZE >> 20} MiB", path=name)
        found = http.ensure(url, found.digest, services.emit, vertex)
        with open(http.path(found), "rb") as f:
            return f.read(), name


def _committed(source: GitSource, file: str, services: Services) -> tuple[bytes, str]:
    git = services.remote.git
    with _Step(services, f"[internal] load git source {shown(source.url)}"):
        commit = git.resolve(source)
        for name in (file,) if file else NAMES:
            data = git.read(source, commit, name, MAX_SIZE)
            if data is not None:
                return data, name
    missing = file or NAMES[0]
    raise DockerfileError(
        f"the repository {shown(source.url)} has no {os.path.join(source.subdir, missing)}",
        path=missing,
        hint="name the Dockerfile with -f, relative to the context",
    )


def read_unpacked(directory: str, file: str) -> tuple[bytes, str]:
    """(content, name) of the Dockerfile of an unpacked context; no link leads out of it."""
    from buildkit_py.snapshot.dirtree import DirTree

    tree = DirTree(directory)
    for name in (file,) if file else NAMES:
        found = tree.lookup(name)
        if found is not None and os.path.isfile(found.host):
            with open(found.host, "rb") as f:
                return f.read(MAX_SIZE + 1), name
    missing = file or NAMES[0]
    raise DockerfileError(
        f"the build context has no {missing}",
        path=missing,
        hint="name the Dockerfile with -f, relative to the context",
    )


def _all(stream: Readable, what: str) -> bytes:
    parts, size = [], 0
    while data := stream.read(1 << 20):
        parts.append(data)
        size += len(data)
        if size > MAX_SIZE:
            raise UsageError(f"{what} is larger than {MAX_SIZE >> 20} MiB")
    return b"".join(parts)


class _Stdin:
    """Standard input as it comes."""

    def read(self, size: int, /) -> bytes:
        try:
            return os.read(0, size)
        except OSError as e:
            raise UsageError(f"cannot read standard input: {e.strerror}") from e


class _Step:
    """A vertex around the opening of an input."""

    def __init__(self, services: Services, name: str) -> None:
        self._emit = services.emit
        self._event = VertexEvent(f"internal:{name}", name, started=time.time())

    def __enter__(self) -> str:
        self._emit(self._event)
        return self._event.digest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._emit(self._event._replace(completed=time.time(), error=told(error)))
