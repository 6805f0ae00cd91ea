"""What a container needs from the machine while it runs, as its supervisor asks for it.

The implementation is the engine's (buildkit_py.engine.resources).
"""

from __future__ import annotations

from collections.abc import Callable

from buildkit_py.runtime.config import Config
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.typed import Protocol


class Hooks(Protocol):
    """Called in a process with one thread, in the namespaces of its user. ``directory`` is the container's,
    where what a later process needs can be noted."""

    def set_up(
        self,
        directory: str,
        config: Config,
        spec: SandboxSpec,
        starter: int,
        warn: Callable[[str], None],
    ) -> tuple[SandboxSpec, int]:
        """Before each start, those of the restart policy too: the spec to start with, and a descriptor of
        the network namespace that was made for it, -1 for none. ``starter``: the process that will start it
        (Launcher.starter). Raises PybuildError."""
        ...

    def tear_down(self, directory: str, config: Config) -> str:
        """After each end, and after a set-up that failed; for a container whose supervisor was killed by
        another process, maybe more than once. Says so where the kernel killed something of it for lack of
        memory; else "". Raises nothing."""
        ...

    def removed(self, config: Config) -> None:
        """The container is gone. Raises nothing."""
        ...
