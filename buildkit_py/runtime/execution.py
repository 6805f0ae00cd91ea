"""One ``exec``: a command that joined a container, with its streams, as the supervisor sees it."""

from __future__ import annotations

import os
from collections.abc import Callable

from buildkit_py.errors import SandboxError
from buildkit_py.linux.caps import ALL
from buildkit_py.runtime import control
from buildkit_py.runtime.loop import Loop
from buildkit_py.runtime.streams import Streams
from buildkit_py.sandbox.launcher import Launcher, Running
from buildkit_py.sandbox.spec import SandboxSpec

Tell = Callable[[control.Message, tuple[int, ...]], None]


class Execution:
    """``tell`` answers the client that asked for it; ``ended`` is called with the exit status.

    The message's fields: args, env, cwd, uid, gid, groups, terminal, privileged; interactive; streams, the
    names of those that the client wants, none for a detached one; rows and columns.
    """

    def __init__(
        self, loop: Loop, message: control.Message, tell: Tell, ended: Callable[[Running, int], None]
    ) -> None:
        self._loop = loop
        self._message = message
        self._tell = tell
        self._ended = ended
        self._streams: Streams | None = None
        self._running: Running | None = None
        self._answered = False

    def start(self, launcher: Launcher, container: Running, spec: SandboxSpec) -> None:
        """``spec``: the container's. Raises SandboxError."""
        message = self._message
        spec = spec._replace(
            args=tuple(message["args"]),
            env=tuple(message["env"]),
            cwd=message["cwd"],
            uid=message["uid"],
            gid=message["gid"],
            groups=tuple(message["groups"]),
            terminal=message["terminal"],
            init=False,
        )
        if message["privileged"]:
            spec = spec._replace(privileged=True, capabilities=ALL, seccomp="unconfined")
        if message["terminal"]:
            # It makes its own terminal; until then its streams lead nowhere.
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            given = (null, null, null)
        else:
            self._streams = self._make_streams(-1)
            given = self._streams.given
        try:
            self._running = launcher.join(container, spec, stdin=given[0], stdout=given[1], stderr=given[2])
        except BaseException:
            if self._streams is not None:
                self._streams.end()
            raise
        finally:
            if self._streams is not None:
                self._streams.started()
            else:
                os.close(null)
        if self._streams is not None and message["streams"]:
            self._attach()
        self._loop.watch(self._running.fileno(), self._advance)
        self._heard()

    def _make_streams(self, master: int) -> Streams:
        return Streams(
            self._loop,
            terminal=master >= 0,
            master=master,
            interactive=self._message["interactive"],
            once=True,
            size=(self._message["rows"], self._message["columns"]),
        )

    def _attach(self) -> None:
        assert self._streams is not None
        names, fds = self._streams.attach(tuple(self._message["streams"]))
        self._answer({"streams": names}, fds)
        for fd in fds:
            os.close(fd)

    def _answer(self, message: control.Message, fds: tuple[int, ...] = ()) -> None:
        self._answered = True
        self._tell(message, fds)

    def _advance(self, events: int) -> None:
        assert self._running is not None
        fd = self._running.fileno()
        error: SandboxError | None = None
        status: int | None
        try:
            status = self._running.advance()
        except SandboxError as e:
            status, error = 126, e
        if status is None:
            self._heard()
            return
        self._loop.forget(fd)
        running, self._running = self._running, None
        refusal = running.refusal
        if self._streams is not None:
            self._streams.end()
        if error is not None:
            self._tell({"error": error.message, "hint": error.hint, "exit": status}, ())
        elif refusal and not self._answered:
            self._tell({"error": refusal, "exit": status}, ())
        else:
            self._tell({"exit": status}, ())
        self._ended(running, status)

    def _heard(self) -> None:
        assert self._running is not None
        if self._running.terminal >= 0 and self._streams is None:
            self._streams = self._make_streams(self._running.terminal)
            if self._message["streams"]:
                self._attach()
        if self._running.executing and not self._answered:
            self._answer({})

    def kill(self, signum: int) -> None:
        if self._running is not None:
            self._running.kill(signum)

    def resize(self, rows: int, columns: int) -> None:
        if self._streams is not None:
            self._streams.resize(rows, columns)

    def pending(self) -> bool:
        return self._streams is not None and self._streams.pending()
