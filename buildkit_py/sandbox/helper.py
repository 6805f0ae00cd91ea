"""The helper: a small process that starts sandboxes and waits for them.

Forked from the main process once, before any thread exists, into a pid namespace of its own, of which
it is process 1. So one thing alone has to be right for nothing to be left behind: when the main process
dies, however it dies, the helper is killed (PR_SET_PDEATHSIG; and it ends when its socket closes), and
with it the kernel kills everything in its pid namespace and those nested in it. A sandbox's own
PDEATHSIG would not do: executing a set-uid program clears it.

It listens on a socket for requests, each with the run's own socket and three streams, and answers on
the run's socket: ``started`` with a pidfd, ``exit`` with the status. The sandbox's first process reads
the spec from the run's socket by itself, and reports there what it has to (buildkit_py.sandbox.child).
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import signal
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from buildkit_py.errors import SandboxError
from buildkit_py.linux import syscalls as sc
from buildkit_py.sandbox import wire

if TYPE_CHECKING:
    from buildkit_py.sandbox import child

_NAMESPACES = sc.CLONE_NEWNS | sc.CLONE_NEWPID | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP


class _Run(NamedTuple):
    pid: int
    pidfd: int
    conn: _socket.socket


def main(control: _socket.socket, mode: str, base_stub: str) -> NoReturn:
    """Serve until the main process is gone."""
    try:
        _settle(control)
        _serve(control, mode, base_stub)
    finally:
        os._exit(0)


def _settle(control: _socket.socket) -> None:
    """Let go of all that belongs to the main process: descriptors, session, signals."""
    sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    own = control.fileno()
    if own > 3:
        sc.close_range(3, own - 1)
    sc.close_range(own + 1)
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.disable()
    gc.freeze()


def _serve(control: _socket.socket, mode: str, base_stub: str) -> None:
    from buildkit_py.linux import seccomp
    from buildkit_py.sandbox import child

    settings = child.Settings(mode, base_stub, seccomp.program())
    poll = select.poll()
    poll.register(control, select.POLLIN)
    runs: dict[int, _Run] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == control.fileno():
                run = _start(control, settings)
                if run is not None:
                    runs[run.pid] = run
                    poll.register(run.pidfd, select.POLLIN)
                    # No events asked for: told only of the main process's hanging up.
                    poll.register(run.conn, 0)
            else:
                _kill_if_abandoned(fd, runs)
        _reap(runs, poll)


def _start(control: _socket.socket, settings: child.Settings) -> _Run | None:
    from buildkit_py.sandbox import child

    message, fds = wire.receive(control)
    if message is None:
        os._exit(0)
    conn = _socket.socket(fileno=fds[0])
    streams = (fds[1], fds[2], fds[3])
    try:
        pid, pidfd = sc.clone(_NAMESPACES)
    except SandboxError as e:
        _tell(conn, ("error", e.message, e.call, e.errno, e.hint))
        _tell(conn, ("exit", child.SETUP_FAILED))
        conn.close()
        pid = -1
    if pid == 0:
        child.main(conn, streams, settings)
    for fd in streams:
        os.close(fd)
    if pid < 0:
        return None
    _tell(conn, ("started",), (pidfd,))
    return _Run(pid, pidfd, conn)


def _tell(conn: _socket.socket, message: wire.Message, fds: tuple[int, ...] = ()) -> None:
    try:
        wire.send(conn, message, fds)
    except OSError:
        pass


def _kill_if_abandoned(fd: int, runs: dict[int, _Run]) -> None:
    for run in runs.values():
        if run.conn.fileno() == fd:
            signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)


def _reap(runs: dict[int, _Run], poll: select.poll) -> None:
    """Collect all dead children: sandboxes, and what their dying left to us as process 1."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        run = runs.pop(pid, None)
        if run is None:
            continue
        poll.unregister(run.pidfd)
        poll.unregister(run.conn)
        os.close(run.pidfd)
        code = os.waitstatus_to_exitcode(status)
        _tell(run.conn, ("exit", code if code >= 0 else 128 - code))
        run.conn.close()
