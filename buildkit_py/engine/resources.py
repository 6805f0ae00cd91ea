"""What containers have of the machine while they run: the one place where it is had and given back.

Implements buildkit_py.runtime.hooks.Hooks. Made before the supervisor is forked, used in it: an engine, and
with it the index, is opened there only, and only for a container that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from buildkit_py.runtime.config import Config
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.networking import Connection, Networks


class Resources:
    def __init__(self, root: str, *, bridged: bool = False) -> None:
        """``bridged``: get ready for the network bridge (Networks.foresee)."""
        self._root = root
        self._engine: Engine | None = None
        self._networks: Networks | None = None
        self._connection: Connection | None = None
        if bridged:
            self._open_networks().foresee()

    def _open(self) -> Engine:
        from buildkit_py.engine import Engine

        if self._engine is None:
            self._engine = Engine(self._root)
        return self._engine

    def _open_networks(self) -> Networks:
        from buildkit_py.engine.networking import Networks

        if self._networks is None:
            self._networks = Networks(self._root, self._open)
        return self._networks

    def set_up(
        self,
        directory: str,
        config: Config,
        spec: SandboxSpec,
        starter: int,
        warn: Callable[[str], None],
    ) -> tuple[SandboxSpec, int]:
        exposed = config.image_config.get("ExposedPorts") or ()
        self._connection = self._open_networks().connect(
            directory, (config.id, config.name), config.request.networking, exposed, warn
        )
        spec = self._connection.fit(spec)
        if spec.shared:
            spec = _shared(self._open(), config, spec)
        if spec.runtime:
            spec = spec._replace(bundle=_new_bundle(directory))
        if _grouped(config):
            spec = _limited(directory, config, spec, starter, warn)
        return spec, self._connection.namespace

    def tear_down(self, directory: str, config: Config) -> str:
        from buildkit_py.network import record

        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        record.ended(directory)
        return _released(directory, config) if _grouped(config) else ""

    def removed(self, config: Config) -> None:
        """Nothing is kept outside of the container's directory."""


_GROUP = "cgroup"
"""The file of a container that names its control groups."""


def _shared(engine: Engine, config: Config, spec: SandboxSpec) -> SandboxSpec:
    """The spec with the namespaces of other containers by their paths now. Raises PybuildError."""
    from buildkit_py.engine.networking import process_of

    found = []
    for kind, name in config.request.isolation.shared:
        pid = process_of(engine.containers.find(name), name)
        found.append((kind, f"/proc/{pid}/ns/{kind}"))
    return spec._replace(shared=tuple(found))


def _new_bundle(directory: str) -> str:
    """An empty directory for an OCI bundle, in place of the last run's."""
    from buildkit_py.snapshot.removal import remove_tree

    bundle = f"{directory}/bundle"
    remove_tree(bundle)
    os.mkdir(bundle, 0o700)
    return bundle


def _grouped(config: Config) -> bool:
    """Whether it has a control group. An OCI runtime always makes some, where it can: in ours."""
    return config.request.limits.controlled or bool(config.request.isolation.runtime)


def _limited(
    directory: str, config: Config, spec: SandboxSpec, starter: int, warn: Callable[[str], None]
) -> SandboxSpec:
    """The spec with its limits, in a control group. Raises PybuildError."""
    from buildkit_py.linux import userns
    from buildkit_py.sandbox import limits

    mode = userns.present().mode
    everywhere = bool(spec.runtime) and mode == "root"
    spec, group, warning = limits.apply(
        spec, config.request.limits, config.id, mode, starter, everywhere=everywhere
    )
    if spec.processes and spec.runtime:
        warning = f"{warning}; " if warning else ""
        warning += "--pids-limit is not kept with --runtime, without a control group"
    group.write(f"{directory}/{_GROUP}")
    if warning:
        warn(warning)
    return spec


def _released(directory: str, config: Config) -> str:
    """Give the control group back; as tear_down()."""
    from buildkit_py.linux.cgroups import Group
    from buildkit_py.sandbox import limits

    group = Group.read(f"{directory}/{_GROUP}")
    killed = group.oom_kills()
    group.remove()
    return limits.out_of_memory(config.request.limits) if killed else ""
