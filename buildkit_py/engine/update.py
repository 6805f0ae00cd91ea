"""``update``: another restart policy, other limits, for a container that runs or not."""

from __future__ import annotations

from buildkit_py.errors import PybuildError, UsageError
from buildkit_py.linux import cgroups
from buildkit_py.request import Limits
from buildkit_py.runtime import config as configs
from buildkit_py.runtime import events
from buildkit_py.runtime.container import Container
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine

_KEPT = ("shm_size", "cgroup_parent", "strict")


def update(engine: Engine, container: Container, limits: Limits, restart: str) -> str:
    """Change what is given; "" for nothing to say, else which limits count from the next start on.

    Raises PybuildError, UsageError for --restart of a container that is removed when it ends.
    """
    config = container.config()
    request = config.request
    if restart and request.remove and restart != "no":
        raise UsageError("a container that is removed when it ends (--rm) can't be restarted")
    default = Limits()._asdict()
    changed = {k: v for k, v in limits._asdict().items() if v != default[k] and k not in _KEPT}
    request = request._replace(limits=request.limits._replace(**changed), restart=restart or request.restart)
    memory, both = request.limits.memory, request.limits.memory_swap
    if both > 0 and not memory:
        raise UsageError("--memory-swap needs --memory", hint="it is memory and swap together")
    if 0 < both < memory:
        raise PybuildError("--memory is above --memory-swap, which is memory and swap together")
    if limits.memory_swap:
        limits = limits._replace(memory=memory)
    late = _apply(container, limits._replace(memory_swap=both)) if changed else ""
    configs.write(container.path, config._replace(request=request))
    events.write(container.path, "update", config)
    return late


def _apply(container: Container, limits: Limits) -> str:
    if not container.alive():
        return ""
    group = cgroups.Group.read(container.part("cgroup"))
    missing = cgroups.update(group, limits)
    return f"from the next start on: {', '.join(missing)}" if missing else ""
