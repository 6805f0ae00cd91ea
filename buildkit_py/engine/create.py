"""``create``: a container from an image and a request; and the spec that it is started with.

plan, make, spec: in this order.
"""

from __future__ import annotations

import os
import time

from buildkit_py.engine.networking import check, kind_of
from buildkit_py.errors import NotFoundError, UsageError
from buildkit_py.image.store import Image
from buildkit_py.progress.events import Emit
from buildkit_py.request import MountSpec, RunRequest
from buildkit_py.runtime import events
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.container import Container, check_name
from buildkit_py.runtime.isolation import check_sysctls
from buildkit_py.runtime.process import arguments, container_spec
from buildkit_py.runtime.volumes import image_volumes, named
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


def plan(engine: Engine, request: RunRequest, emit: Emit) -> Config:
    """What a new container is to be made of; its image is here then. Raises PybuildError."""
    if request.name:
        check_name(request.name)
    engine.after_boot()
    engine.share()
    image = find_image(engine, request)
    image_config = image.config.get("config") or {}
    command = arguments(image_config, request)
    check_sysctls(request.isolation, kind_of(request.networking.networks))
    check(engine, request.networking)
    engine.enter()
    snapshot = engine.sources.unpack(image.id, emit, "pull")
    given = with_others(engine, request)
    mounts, anonymous = named((*given, *image_volumes(image_config, given)))
    return Config(
        id=engine.containers.new_id(),
        name=request.name,
        created=time.time(),
        image=image.id,
        snapshot=snapshot,
        platform=image.platform,
        request=request,
        image_config=image_config,
        command=command,
        mounts=mounts,
        anonymous=anonymous,
    )


def make(engine: Engine, config: Config) -> tuple[Container, Config]:
    """The container with its volumes, and its config, which has its name now. Raises PybuildError."""
    container = engine.containers.create(config)
    config = config._replace(name=container.name)
    # What it stands on is named by a row.
    engine.unshare()
    try:
        tree = engine.snapshots.tree(config.snapshot)
        if config.mounts:
            from buildkit_py.runtime.mounts import prepare

            for mount in config.mounts:
                prepare(mount, tree, engine.volumes, anonymous=mount.source in config.anonymous)
        if not engine.overlay:
            from buildkit_py.runtime import copied
            from buildkit_py.snapshot.merge import materialise

            copied.record(container.path, materialise(tree, container.part("fs")))
    except BaseException:
        engine.containers.remove(container)
        raise
    events.write(container.path, "create", config)
    return container, config


def with_others(engine: Engine, request: RunRequest) -> tuple[MountSpec, ...]:
    """The mounts that were asked for, and those of the containers of ``--volumes-from``.

    Raises NotFoundError, UsageError.
    """
    mounts = list(request.mounts)
    taken = {os.path.normpath(mount.target) for mount in mounts}
    for text in request.volumes_from:
        name, colon, mode = text.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z") or (colon and not mode):
            raise UsageError(f"--volumes-from: unknown option '{mode}'", hint="ro or rw")
        for mount in engine.containers.get(name).config().mounts:
            if mount.kind != "tmpfs" and os.path.normpath(mount.target) not in taken:
                taken.add(os.path.normpath(mount.target))
                mounts.append(mount._replace(readonly=mount.readonly or mode == "ro"))
    return tuple(mounts)


def find_image(engine: Engine, request: RunRequest) -> Image:
    """The image in the store, pulled first where it isn't there or ``--pull=always`` asks for it."""
    if request.pull != "always":
        try:
            return engine.images.find(request.image, request.platform)
        except NotFoundError:
            if request.pull == "never":
                raise
    resolved = engine.sources.resolve(request.image, request.platform, pull=True)
    return engine.images.find(resolved.digest, request.platform)


def spec(engine: Engine, container: Container, config: Config) -> SandboxSpec:
    """What the container is started with, all but the network. Raises PybuildError."""
    engine.enter()
    upper = container.part("fs")
    lower = engine.snapshots.layers(config.snapshot)
    tree = root_tree(engine, container, config)
    mounts: tuple[SandboxMount, ...] = ()
    if config.mounts:
        from buildkit_py.runtime.mounts import sandbox_mount

        mounts = tuple(sandbox_mount(mount, engine.volumes) for mount in config.mounts)
    made = container_spec(
        config,
        tree,
        mounts,
        layers=lower,
        upper=upper,
        work=container.part("work"),
        identity=engine.identity,
    )
    if mounts:
        from buildkit_py.runtime.mounts import take_over

        take_over(config.mounts, made)
    return made if engine.overlay else made._replace(tree=upper)


def root_tree(engine: Engine, container: Container, config: Config) -> LayerTree:
    """The container's files without its mounts, as they are now."""
    upper = container.part("fs")
    lower = engine.snapshots.layers(config.snapshot) if engine.overlay else ()
    return LayerTree((upper, *lower), recorded=engine.identity.mode == "single")
