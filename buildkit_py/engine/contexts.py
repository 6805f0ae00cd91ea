"""What a build reads from the caller's machine: the Dockerfile, its ignore rules, local directories."""

from __future__ import annotations

import os
from typing import NamedTuple

from buildkit_py.errors import DockerfileError, UsageError
from buildkit_py.request import BuildRequest
from buildkit_py.worker.context import LocalContext

MAX_DOCKERFILE = 16 << 20
"""Bytes. A Dockerfile that is larger is some other file."""


class BuildFiles(NamedTuple):
    """The opened inputs of a build; ``shown`` is the Dockerfile's path as the user wrote it."""

    context: str
    dockerfile: bytes
    shown: str
    ignore: tuple[str, ...]

    @classmethod
    def open(cls, request: BuildRequest) -> BuildFiles:
        """Raises UsageError, DockerfileError."""
        context = _directory(request.context)
        path, shown = _dockerfile(context, request)
        try:
            with open(path, "rb") as f:
                data = f.read(MAX_DOCKERFILE + 1)
        except OSError as e:
            raise DockerfileError(
                f"cannot read {shown}: {e.strerror}",
                path=shown,
                hint="name the Dockerfile with -f, and the context's directory as the argument",
            ) from e
        if len(data) > MAX_DOCKERFILE:
            raise DockerfileError(f"{shown} is larger than {MAX_DOCKERFILE >> 20} MiB", path=shown)
        return cls(context, data, shown, _ignore_lines(context, path))

    def lines(self) -> tuple[str, ...]:
        return tuple(self.dockerfile.decode("utf-8", "replace").splitlines())


def _directory(context: str) -> str:
    if context == "-" or "://" in context or context.startswith("git@"):
        raise UsageError(
            f"a context that is {'standard input' if context == '-' else 'a URL'} is not supported yet",
            hint="give a directory",
        )
    if not os.path.isdir(context):
        raise UsageError(
            f"the build context {context} is {'not a directory' if os.path.exists(context) else 'not there'}",
            hint="the argument of build is a directory; the Dockerfile is named with -f",
        )
    return os.path.abspath(context)


def _dockerfile(context: str, request: BuildRequest) -> tuple[str, str]:
    """The Dockerfile's path and how to show it. ``-f`` is relative to the working directory and, where
    nothing is there, to the context."""
    if request.file == "-" or "://" in request.file:
        raise UsageError(f"-f {request.file} is not supported yet", hint="write the Dockerfile to a file")
    if request.file:
        inside = os.path.join(context, request.file)
        path = inside if not os.path.exists(request.file) and os.path.exists(inside) else request.file
        return path, request.file
    for name in ("Dockerfile", "dockerfile"):
        if os.path.lexists(os.path.join(context, name)):
            return os.path.join(context, name), name
    return os.path.join(context, "Dockerfile"), "Dockerfile"


def _ignore_lines(context: str, dockerfile: str) -> tuple[str, ...]:
    """The rules of ``<Dockerfile>.dockerignore``, else of the context's .dockerignore."""
    for path in (f"{dockerfile}.dockerignore", os.path.join(context, ".dockerignore")):
        try:
            with open(path, "rb") as f:
                text = f.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            raise UsageError(f"cannot read {path}: {e.strerror}") from e
        from buildkit_py.frontends.dockerfile.dockerignore import parse_ignore

        return parse_ignore(text)
    return ()


class Locals:
    """Opens the local contexts of one build."""

    def __init__(self, root: str, files: BuildFiles, request: BuildRequest) -> None:
        self._root = root
        self._paths = {"context": files.context, **dict(request.build_contexts)}

    def open(self, name: str, ignore: tuple[str, ...]) -> LocalContext:
        """Raises PybuildError where there is no such directory."""
        from buildkit_py.cache.statcache import StatCache
        from buildkit_py.source.local import open_context

        path = self._paths[name]
        statcache = StatCache.of_directory(self._root, path)
        if not ignore:
            return LocalContext(open_context(path), statcache)
        from buildkit_py.frontends.dockerfile.dockerignore import Matcher

        matcher = Matcher(ignore)
        tree = open_context(path, exclude=matcher.excluded, may_descend=matcher.may_descend)
        return LocalContext(tree, statcache)
