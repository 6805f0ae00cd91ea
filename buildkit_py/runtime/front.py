"""Making a supervisor (buildkit_py.runtime.supervisor), and the command's end of the connection to it.

The fork comes first and the supervisor's modules are loaded on its side of it, while the command looks its
image up: a small process is forked faster, and two processes load at once.
"""

from __future__ import annotations

import _socket
import gc
import os
import signal
from collections.abc import Callable

from buildkit_py.errors import PybuildError
from buildkit_py.linux import forked
from buildkit_py.linux.identity import Identity
from buildkit_py.runtime import control
from buildkit_py.sandbox import wire
from buildkit_py.sandbox.launcher import Launcher
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.typed import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from buildkit_py.runtime.hooks import Hooks


class Front:
    """The first client of a supervisor, which waits for its container."""

    def __init__(self, conn: _socket.socket) -> None:
        self.conn = conn

    @classmethod
    def fork(cls, identity: Identity, stubs: str, hooks: Callable[[], Hooks]) -> Front:
        """Make a supervisor; while the process has one thread, and the index is closed. ``hooks`` is called
        there; ``identity`` and ``stubs`` are for its launcher (Launcher.start). Raises SandboxError."""
        mine, theirs = control.pair()
        if forked.fork() == 0:
            mine.close()
            _main(theirs, identity, stubs, hooks)
        theirs.close()
        return cls(mine)

    def start(
        self,
        directory: str,
        mode: str,
        spec: SandboxSpec,
        attach: tuple[str, ...],
        size: tuple[int, int],
        warn: Callable[[str], None],
    ) -> tuple[control.Message, list[int]]:
        """Start the container; the answer, which may be an error. Raises PybuildError where there is none."""
        message = {"op": "start", "directory": directory, "mode": mode, "attach": attach, "size": size}
        try:
            control.send(self.conn, message)
            wire.send_spec(self.conn, spec)
        except BrokenPipeError:
            # It has died; that is found out below, and is nobody's closed output.
            pass
        while True:
            answer, fds = control.receive(self.conn)
            if answer is None:
                crash = os.path.join(directory, control.CRASH)
                raise PybuildError(
                    "the container's supervisor has died",
                    hint=f"this is a fault of pybuild; see {crash}" if os.path.exists(crash) else "",
                )
            if "warning" not in answer:
                return answer, fds
            warn(answer["warning"])

    def close(self) -> None:
        """Let it go: one that has no container ends."""
        self.conn.close()


def _main(conn: _socket.socket, identity: Identity, stubs: str, hooks: Callable[[], Hooks]) -> NoReturn:
    try:
        _settle(conn.fileno())
        try:
            launcher = Launcher.start(identity, stubs_in=stubs)
        except PybuildError as e:
            _refuse(conn, e)
        else:
            from buildkit_py.runtime import supervisor

            supervisor.main(conn, launcher, stubs, hooks())
    except BaseException:
        # There is nobody to tell any more.
        pass
    finally:
        os._exit(0)


def _refuse(conn: _socket.socket, error: PybuildError) -> None:
    """Answer the request for a start, which is on its way; with ``untouched``: the container is as it was."""
    if control.receive(conn)[0] is not None:
        wire.receive_spec(conn)
        control.send(conn, {"error": error.message, "hint": error.hint, "untouched": True})


def _settle(*kept: int) -> None:
    """Let go of what belongs to the command: session, streams, descriptors, signals."""
    forked.settle(kept, dies_with_parent=False)
    gc.enable()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.chdir("/")
    os.umask(0o022)
