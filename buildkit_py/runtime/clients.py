"""Those who are connected to a supervisor: heard one message at a time, answered, told of the end."""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable, Iterator
from functools import partial

from buildkit_py.errors import PybuildError
from buildkit_py.runtime import control
from buildkit_py.runtime.loop import Loop
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.runtime.execution import Execution


class Client:
    """A connection, and what it waits for."""

    def __init__(self, conn: _socket.socket) -> None:
        self.conn = conn
        self.waits = False
        """For the end of the container."""
        self.follows = False
        """For more in the log."""
        self.attached = False
        self.holds = False
        """The container is paused for it."""
        self.execution: Execution | None = None
        self.given: list[int] = []
        """The descriptors of its last message, while that is dealt with."""

    def tell(self, message: control.Message, fds: tuple[int, ...] = ()) -> None:
        try:
            control.send(self.conn, message, fds)
        except OSError:
            # Gone; the loop will hear of it.
            pass

    def refuse(self, error: PybuildError) -> None:
        self.tell({"error": error.message, "hint": error.hint})


class Clients:
    """``do`` deals with a message and may raise PybuildError; ``early`` says that one has to wait until
    ``let_in``; ``gone`` hears of who has left."""

    def __init__(
        self,
        loop: Loop,
        directory: str,
        do: Callable[[Client, control.Message], None],
        early: Callable[[control.Message], bool],
        gone: Callable[[Client], None],
    ) -> None:
        self._loop = loop
        self._listener = control.listen(directory)
        self._do = do
        self._is_early = early
        self._gone = gone
        self._known: dict[int, Client] = {}
        self._early: list[tuple[Client, control.Message]] = []
        """Who wants into the container before it has its root; not heard until then."""
        self._starter: Client | None = None
        self._loop.watch(self._listener.fileno(), self._accept)

    def __iter__(self) -> Iterator[Client]:
        return iter(self._known.values())

    def close_door(self) -> None:
        """Nobody new is taken on; those who are here stay."""
        self._loop.forget(self._listener.fileno())
        self._listener.close()

    def welcome(self, conn: _socket.socket) -> Client:
        client = Client(conn)
        self._known[conn.fileno()] = client
        self._loop.watch(conn.fileno(), partial(self._hear, client))
        return client

    def let_in(self) -> None:
        """Hear those who were early: there is a root to enter, or will be none."""
        early, self._early = self._early, []
        for client, message in early:
            self._loop.watch(client.conn.fileno(), partial(self._hear, client))
            self._handle(client, message)

    def follow_up(self) -> None:
        """The log grew."""
        for client in self:
            if client.follows:
                # Who has word already takes no more, and needs none.
                client.tell({"log": True})

    def waiting(self) -> list[Client]:
        return [client for client in self if client.waits]

    def tell_waiting(self, message: control.Message) -> None:
        for client in self.waiting():
            client.waits = False
            client.tell(message)

    def expect_start(self, client: Client | None) -> None:
        """The client waits to hear whether the command could be executed."""
        self._starter = client

    def take_starter(self) -> Client | None:
        """Who waits for that; once."""
        starter, self._starter = self._starter, None
        return starter

    def _accept(self, events: int) -> None:
        fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        self.welcome(_socket.socket(fileno=fd))

    def _hear(self, client: Client, events: int) -> None:
        message, client.given = control.receive(client.conn)
        if message is not None and self._is_early(message):
            self._loop.forget(client.conn.fileno())
            self._early.append((client, message))
        else:
            self._handle(client, message)

    def _handle(self, client: Client, message: control.Message | None) -> None:
        try:
            if message is None:
                self._dismiss(client)
            else:
                self._do(client, message)
        except PybuildError as e:
            client.refuse(e)
        finally:
            for fd in client.given:
                os.close(fd)
            client.given = []

    def _dismiss(self, client: Client) -> None:
        fd = client.conn.fileno()
        if fd >= 0:
            self._loop.forget(fd)
            self._known.pop(fd, None)
            client.conn.close()
        if self._starter is client:
            self._starter = None
        self._gone(client)
