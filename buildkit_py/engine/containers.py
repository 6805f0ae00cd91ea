"""``run``: a container from its image to its exit status."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from buildkit_py.engine import networking
from buildkit_py.errors import NotFoundError
from buildkit_py.image.store import Image
from buildkit_py.progress.events import Emit, WarningEvent
from buildkit_py.request import RunRequest
from buildkit_py.runtime.container import Container
from buildkit_py.runtime.process import arguments, container_spec
from buildkit_py.runtime.terminal import Forwarding, serve_terminal
from buildkit_py.runtime.volumes import VolumeStore, image_volumes
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.snapshot.removal import remove_tree

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


def run(engine: Engine, request: RunRequest, emit: Emit, started: Callable[[], None]) -> int:
    """Run a container to its end; return its exit status. ``started`` is called before it starts, when
    no more progress will be emitted. Raises PybuildError."""
    engine.share()
    image = find_image(engine, request, emit)
    config = image.config.get("config") or {}
    arguments(config, request)
    engine.enter()
    snapshot = engine.sources.unpack(image.id, emit, "pull")
    container = engine.containers.create(
        name=request.name,
        image=image.id,
        ref=request.image,
        snapshot=snapshot,
        command=" ".join(arguments(config, request)),
        remove=request.remove,
    )
    volumes = VolumeStore(engine.root)
    try:
        tree = engine.snapshots.tree(snapshot)
        wanted = request.mounts + image_volumes(config, request.mounts)
        layers, upper = engine.snapshots.layers(snapshot), engine.containers.path(container, "fs")
        spec = container_spec(
            config,
            request,
            tree,
            tuple(volumes.mount(v, tree) for v in wanted),
            container_id=container.id,
            layers=layers,
            upper=upper,
            work=engine.containers.path(container, "work"),
        )
        if not engine.overlay:
            from buildkit_py.snapshot.merge import materialise

            materialise(tree, upper)
            spec = spec._replace(tree=upper)
        connection = networking.connect(
            engine,
            container.id,
            request.networking,
            config.get("ExposedPorts") or (),
            lambda text: emit(WarningEvent("", text)),
        )
        try:
            started()
            status = start(engine, request, connection.fit(spec), connection.namespace)
        finally:
            connection.close()
        engine.containers.ended(container, status)
        return status
    except BaseException:
        engine.containers.ended(container, 125)
        raise
    finally:
        if request.remove:
            remove(engine, container, volumes)


def find_image(engine: Engine, request: RunRequest, emit: Emit) -> Image:
    """The image in the store, pulled first where it isn't there or ``--pull=always`` asks for it."""
    if request.pull != "always":
        try:
            return engine.images.find(request.image, request.platform)
        except NotFoundError:
            if request.pull == "never":
                raise
    resolved = engine.sources.resolve(request.image, request.platform, pull=True)
    return engine.images.find(resolved.digest, request.platform)


def start(engine: Engine, request: RunRequest, spec: SandboxSpec, namespace: int) -> int:
    launcher = engine.launcher
    if request.terminal:
        stdin = 0 if request.interactive else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return serve_terminal(
            lambda fd: launcher.run(spec, stdin=fd, stdout=fd, stderr=fd, namespace=namespace), stdin, 1
        )
    stdin = 0 if request.interactive else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    running = launcher.run(spec, stdin=stdin, stdout=1, stderr=2, namespace=namespace)
    with Forwarding(running):
        return running.wait()


def remove(engine: Engine, container: Container, volumes: VolumeStore) -> None:
    engine.containers.remove(container)
    engine.container_networks.remove(container.id)
    for path in volumes.anonymous:
        remove_tree(path)
