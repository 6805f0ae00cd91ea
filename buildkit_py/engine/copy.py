"""``cp``: files between containers and the machine.

Both ends speak tar (buildkit_py.archive.transfer). The container's end runs in its mounts, so volumes are
seen, and a link leads nowhere but into the container: in a container that runs by its supervisor, else in a
sandbox of its own over the same files, while the container's lock is held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from buildkit_py.archive import compression, member, transfer
from buildkit_py.archive.transfer import Source
from buildkit_py.archive.untar import TarReader
from buildkit_py.engine import containers
from buildkit_py.engine.create import spec
from buildkit_py.errors import PybuildError
from buildkit_py.runtime import control, recorded
from buildkit_py.runtime.container import Container, RunningError
from buildkit_py.sandbox.tool import fitted
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine

Wait = Callable[[], int]
_CHUNK = 1 << 20


def from_container(
    engine: Engine, container: Container, path: str, target: str, *, follow: bool, owners: bool
) -> None:
    """Copy a path of the container to the machine; ``-``: its tar to stdout. Raises PybuildError."""
    contents = path.endswith("/.") or path == "."
    # A tar of what is in a folder can be unpacked in another one, whatever that is called.
    args = (_absolute(path), "follow" if follow else "", "." if contents and target == "-" else "")
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if target == "-":
            with _tool(engine, container, "pack", args, null, 1):
                return
        read, write = os.pipe()
        with _tool(engine, container, "pack", args, null, write), open(read, "rb", buffering=0) as stream:
            os.close(write)
            head = _Head(stream.read)
            if head.kind:
                source = Source(head.name, head.kind == member.DIRECTORY, contents)
                transfer.unpack(head.read, target, source, owners=owners)
    finally:
        os.close(null)


def to_container(
    engine: Engine, source: str, container: Container, path: str, *, follow: bool, owners: bool
) -> None:
    """Copy a path of the machine to the container; ``-``: a tar from stdin. Raises PybuildError."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if source == "-":
            args = (_absolute(path), "", "", "owners")
            _feed(engine, container, args, null, _decompressed)
            return
        described = transfer.describe(source, follow=follow)
        kind = "contents" if described.contents else "directory" if described.directory else "file"
        args = (_absolute(path), described.name, kind, "owners" if owners else "")
        _feed(engine, container, args, null, lambda write: transfer.pack(source, write, follow=follow))
    finally:
        os.close(null)


def _feed(
    engine: Engine,
    container: Container,
    args: tuple[str, ...],
    null: int,
    make: Callable[[Callable[[bytes], None]], None],
) -> None:
    """Have the container's end unpack the tar that ``make`` writes."""
    read, write = os.pipe()
    with _tool(engine, container, "unpack", args, read, null):
        os.close(read)
        with open(write, "wb", buffering=0) as stream:
            try:
                make(_all_to(stream.fileno()))
            except BrokenPipeError:
                # The other end says why.
                pass


def _decompressed(write: Callable[[bytes], None]) -> None:
    """Standard input. The container's end could not load what it takes to decompress. Raises ImageError."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        head, whole = compression.peek(stdin)
        stream = compression.decompressed(whole, compression.detect(head))
        while data := stream.read(_CHUNK):
            write(data)


def _all_to(fd: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return write


class _Head:
    """A stream whose first member is known before it is read."""

    def __init__(self, read: Callable[[int], bytes | None]) -> None:
        self._source = read
        self._kept: list[bytes] = []
        first = TarReader(self._keep).next()
        self.kind = first.kind if first is not None else b""
        self.name = first.path.partition("/")[0] if first is not None else ""

    def _keep(self, size: int) -> bytes:
        data = self._source(size) or b""
        self._kept.append(data)
        return data

    def read(self, size: int) -> bytes:
        return self._kept.pop(0) if self._kept else self._source(size) or b""


def _absolute(path: str) -> str:
    """Paths of a container begin at its root, whatever its working directory is."""
    return path if path.startswith("/") else "/" + path


@contextmanager
def _tool(
    engine: Engine, container: Container, tool: str, args: tuple[str, ...], stdin: int, stdout: int
) -> Iterator[None]:
    """Run a tool in the container while the body serves the other end of its stream. Raises PybuildError with
    what the tool said, where it failed."""
    said, stderr = os.pipe()
    words = b""
    try:
        with _started(engine, container, tool, args, (stdin, stdout, stderr)) as wait:
            os.close(stderr)
            stderr = -1
            error: PybuildError | None = None
            try:
                yield
            except PybuildError as e:
                error = e
            status = wait()
            while data := os.read(said, 65536):
                words += data
            if status and words:
                raise PybuildError(words.decode("utf-8", "replace").strip())
            if error is not None:
                raise error
            if status:
                raise PybuildError(f"copying ended with status {status}")
    finally:
        for fd in (said, stderr):
            if fd >= 0:
                os.close(fd)


@contextmanager
def _started(
    engine: Engine, container: Container, tool: str, args: tuple[str, ...], streams: tuple[int, int, int]
) -> Iterator[Wait]:
    while True:
        conn = control.connect(container.path)
        if conn is not None:
            try:
                control.send(conn, {"op": "tool", "tool": tool, "args": args}, streams)
            except BrokenPipeError:
                # It ended in the meantime.
                conn.close()
                continue
            try:
                yield partial(_answer, conn)
                return
            finally:
                conn.close()
        try:
            with engine.containers.locked(container):
                config = container.config()
                made = fitted(spec(engine, container, config), tool, args)
                stdin, stdout, stderr = streams
                running = engine.launcher.run(made, stdin=stdin, stdout=stdout, stderr=stderr)
                try:
                    yield running.wait
                finally:
                    running.kill()
                    running.wait()
                    recorded.keep(container.path, running)
                return
        except RunningError:
            # Started in the meantime.
            continue


def _answer(conn: control.Connection) -> int:
    answer, _ = control.receive(conn)
    if answer is None:
        containers.died()
    status: int = control.checked(answer)["exit"]
    return status
