"""How a command is connected to a container that it starts or attaches to: data for the engine."""

from __future__ import annotations

from collections.abc import Callable

from buildkit_py.tuples import NamedTuple


def _nothing(*_: object) -> None:
    pass


class Client(NamedTuple):
    attach: tuple[str, ...] = ()
    """Of stdin, stdout and stderr; () for none."""
    detach: bytes = b"\x10\x11"
    """The keys that leave a container with a terminal running; b"" for none."""
    proxy: bool = True
    """Whether signals to the command go to the container."""
    created: Callable[[str], None] = _nothing
    """Called with the id of a new container."""
    warn: Callable[[str], None] = _nothing
    """Called with what a start has to say."""
    starting: Callable[[], None] = _nothing
    """Called when nothing more will be shown, before the container gets the terminal."""
