"""``commit``: an image of a container's files and settings."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from buildkit_py.digest import DiffID, Digest, SnapshotID
from buildkit_py.engine import containers
from buildkit_py.engine.images import changed_config
from buildkit_py.image.assemble import config_bytes
from buildkit_py.layer.apply import apply_layer
from buildkit_py.layer.diff import write_layer
from buildkit_py.oci.platform import parse as parse_platform
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.container import Container
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


def commit(
    engine: Engine,
    container: Container,
    name: str,
    *,
    changes: Sequence[str] = (),
    author: str = "",
    message: str = "",
    pause: bool = True,
) -> Digest:
    """Make the image, give it the name (where that isn't ""), and return its id. Raises PybuildError."""
    engine.share()
    engine.enter()
    config = container.config()
    base = run_config(config)
    final = changed_config(changes, base) if changes else base
    with containers.paused(container) if pause else nullcontext():
        snapshot = _snapshot(engine, container, config)
    chain = engine.snapshots.chain(snapshot)
    document = _document(engine, config, final, author, message)
    diff_ids = [DiffID(info.diff_id or "") for info in chain]
    image = engine.images.put(config_bytes(document, diff_ids))
    if name:
        engine.images.tag(name, image)
    return image


def run_config(config: Config) -> dict[str, Any]:
    """The image's run configuration with what the container was given in its place."""
    request, image = config.request, config.image_config
    result = dict(image)
    env = dict(item.partition("=")[::2] for item in image.get("Env") or [])
    env.update(request.env)
    if env:
        result["Env"] = [f"{key}={value}" for key, value in env.items()]
    if request.entrypoint is not None:
        result["Entrypoint"] = list(request.entrypoint) or None
        result["Cmd"] = list(request.command) or None
    elif request.command:
        result["Cmd"] = list(request.command)
    given = {"User": request.user, "WorkingDir": request.workdir, "StopSignal": request.stop_signal}
    result.update((key, value) for key, value in given.items() if value)
    labels = dict(image.get("Labels") or {}) | dict(request.labels)
    if labels:
        result["Labels"] = labels
    return {key: value for key, value in result.items() if value is not None}


def _document(
    engine: Engine, config: Config, final: dict[str, Any], author: str, message: str
) -> dict[str, Any]:
    """The image's config document but for its layers."""
    image = engine.images.by_id(config.image)
    document = dict(image.config) if image is not None else _foundation(config)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_clock()))
    entry = {"created": now, "created_by": " ".join(config.command)}
    if author:
        entry["author"] = document["author"] = author
    if message:
        entry["comment"] = message
    document["created"] = now
    document["config"] = final
    document["history"] = [*(document.get("history") or []), entry]
    return document


def _clock() -> float:
    """$SOURCE_DATE_EPOCH, else now."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    return float(text) if text.isdigit() else time.time()


def _foundation(config: Config) -> dict[str, Any]:
    """Where the image itself was removed meanwhile."""
    platform = parse_platform(config.platform)
    document = {"os": platform.os, "architecture": platform.architecture}
    return document | ({"variant": platform.variant} if platform.variant else {})


def _snapshot(engine: Engine, container: Container, config: Config) -> SnapshotID:
    """A layer of what the container changed, on its image's."""
    parent = config.snapshot
    lower = engine.snapshots.tree(parent)
    with engine.snapshots.prepare(parent) as staged:
        with _changed(engine, container, config) as fs, _Pipe(fs, lower) as stream:
            diff_id = apply_layer(stream, staged.fs, engine.identity, staged.owners, lower=lower)
        return engine.snapshots.commit(staged, parent, diff_id=diff_id)


@contextmanager
def _changed(engine: Engine, container: Container, config: Config) -> Iterator[str]:
    """A layer directory in overlay form that holds what the container changed."""
    fs = container.part("fs")
    if engine.overlay:
        yield fs
        return
    from buildkit_py.runtime.copied import recorded
    from buildkit_py.snapshot.merge import capture

    with engine.snapshots.prepare(config.snapshot) as staged:
        capture(fs, recorded(container.path), staged)
        yield staged.fs


class _Pipe:
    """The tar of a layer directory, written by a thread while it is read."""

    def __init__(self, fs: str, lower: Any) -> None:
        self._read, self._write = os.pipe()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(fs, lower), name="layer", daemon=True)

    def _run(self, fs: str, lower: Any) -> None:
        def write(data: bytes) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(self._write, view) :]

        try:
            write_layer(fs, write, lower=lower, live=True)
        except BaseException as e:
            self._error = e
        finally:
            os.close(self._write)

    def read(self, size: int, /) -> bytes:
        data = os.read(self._read, size)
        if not data and self._error is not None:
            raise self._error
        return data

    def __enter__(self) -> _Pipe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read)
        self._thread.join()
