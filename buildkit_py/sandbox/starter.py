"""The starter: a small process that starts sandboxes and waits for them.

Forked from the main process once, before any thread exists, into a pid namespace of its own, of which
it is process 1. So one thing alone has to be right for nothing to be left behind: when the main process
dies, however it dies, the starter is killed (PR_SET_PDEATHSIG; and it ends when its socket closes), and
with it the kernel kills everything in its pid namespace and those nested in it. A sandbox's own
PDEATHSIG would not do: executing a set-uid program clears it.

It listens on a socket for requests, each with the run's own socket and three streams, and answers on
the run's socket: ``started`` with a pidfd, ``exit`` with the status. The sandbox's first process reads
the spec from the run's socket by itself, and reports there what it has to (buildkit_py.sandbox.child).
"""

from __future__ import annotations

import _socket
import os
import select
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from buildkit_py.errors import SandboxError
from buildkit_py.linux import forked
from buildkit_py.linux import syscalls as sc
from buildkit_py.sandbox import wire
from buildkit_py.typed import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from buildkit_py.sandbox import child

_NAMESPACES = {
    "pid": sc.CLONE_NEWPID,
    "ipc": sc.CLONE_NEWIPC,
    "uts": sc.CLONE_NEWUTS,
}
"""Made by clone(2). The control groups' is made when the sandbox has entered its own."""


class _Run:
    """A sandbox, and the process beside it (0: there is none)."""

    def __init__(self, pid: int, pidfd: int, conn: _socket.socket, *, host_pids: bool = False) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.conn = conn
        self.host_pids = host_pids
        self.attendant = 0
        self.attendant_pidfd = -1
        self.status = -1
        """Exit status; -1 while it runs."""


def main(control: _socket.socket, mode: str, base_stub: str) -> NoReturn:
    """Serve until the main process is gone."""
    try:
        forked.settle((control.fileno(),))
        # For sandboxes without a process namespace: what their end leaves behind comes to us.
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
        _serve(control, mode, base_stub)
    finally:
        os._exit(0)


def _serve(control: _socket.socket, mode: str, base_stub: str) -> None:
    # All that _start imports, while nobody waits for it.
    from buildkit_py.linux import emulation as emulation
    from buildkit_py.linux import seccomp
    from buildkit_py.sandbox import child
    from buildkit_py.sandbox import joiner as joiner

    single = mode == "single"
    open_filter = seccomp.program(emulate=True, confine=False) if single else b""
    settings = child.Settings(mode, base_stub, seccomp.program(emulate=single), open_filter)
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
                    if run.attendant:
                        poll.register(run.attendant_pidfd, select.POLLIN)
                    # No events asked for: told only of the main process's hanging up.
                    poll.register(run.conn, 0)
            else:
                _kill_if_abandoned(fd, runs)
        _reap(runs, poll)


def _start(control: _socket.socket, settings: child.Settings) -> _Run | None:
    message, fds = wire.receive(control)
    if message is None:
        os._exit(0)
    conn = _socket.socket(fileno=fds[0])
    streams = (fds[1], fds[2], fds[3])
    namespace = fds[4] if len(fds) > 4 else -1
    try:
        if message[0] == "join":
            run = _join(conn, streams, settings, fds[4])
        else:
            run = _run(conn, message, streams, settings, namespace)
    except (SandboxError, OSError) as e:
        words = (
            (e.message, e.call, e.errno, e.hint) if isinstance(e, SandboxError) else (str(e), "fork", 0, "")
        )
        _tell(conn, ("error", *words))
        conn.close()
        return None
    finally:
        for fd in fds[1:]:
            os.close(fd)
    return run


def _run(
    conn: _socket.socket,
    message: wire.Message,
    streams: tuple[int, int, int],
    settings: child.Settings,
    namespace: int,
) -> _Run:
    """Start a sandbox. Raises SandboxError, OSError."""
    from buildkit_py.linux import emulation
    from buildkit_py.sandbox import child

    _, network, platform, others, processes = message
    emulation.prepare(platform, settings.mode)
    link, far_link = wire.pair() if settings.mode == "single" or network == "private" else (None, None)
    with _closing(link, far_link):
        pid, pidfd, early = _clone(conn, others, processes, settings.mode)
        if pid == 0:
            child.main(conn, far_link, streams, settings, namespace, early)
        run = _Run(pid, pidfd, conn, host_pids="pid" in others)
        if link is not None and far_link is not None:
            far_link.close()
            _start_attendant(run, link, -1)
    _tell(conn, ("started",), (pidfd,))
    return run


def _join(
    conn: _socket.socket,
    streams: tuple[int, int, int],
    settings: child.Settings,
    sandbox: int,
) -> _Run:
    """Start a process that joins the sandbox of a pidfd; it tells of the command that it starts there by
    itself.

    Raises SandboxError, OSError.
    """
    from buildkit_py.sandbox import joiner

    link, far_link = wire.pair() if settings.mode == "single" else (None, None)
    with _closing(link, far_link):
        pid, pidfd = sc.clone(0)
        if pid == 0:
            joiner.main(conn, far_link, streams, settings, sandbox)
        run = _Run(pid, pidfd, conn)
        if link is not None and far_link is not None:
            far_link.close()
            _start_attendant(run, link, sandbox)
    return run


@contextmanager
def _closing(*ends: _socket.socket | None) -> Iterator[None]:
    try:
        yield
    finally:
        for end in ends:
            if end is not None:
                end.close()


def _clone(
    conn: _socket.socket, others: tuple[str, ...], processes: str, mode: str
) -> tuple[int, int, child.Early | None]:
    """As clone(2), with new namespaces but for ``others``; in the process namespace of that path."""
    flags = sc.CLONE_NEWNS | sum(flag for name, flag in _NAMESPACES.items() if name not in others)
    return (*sc.clone(flags), None) if not processes else _clone_into(conn, flags, processes, mode)


def _clone_into(
    conn: _socket.socket, flags: int, processes: str, mode: str
) -> tuple[int, int, child.Early | None]:
    """Only a process's children are put into another process namespace, and an ordinary user can't undo that:
    a child of ours does it, whose own child is ours. It does first what can't be done where others look."""
    from buildkit_py.sandbox import child

    mine, other = wire.pair()
    helper = os.fork()
    if helper == 0:
        try:
            early = child.begin(conn, mode)
            fd = os.open(processes, os.O_RDONLY | os.O_CLOEXEC)
            sc.setns(fd, sc.CLONE_NEWPID)
            os.close(fd)
            pid, pidfd = sc.clone(flags | sc.CLONE_PARENT)
            if pid:
                wire.send(other, (pid,), (pidfd,))
        except EOFError:
            # Who asked for it is gone.
            os._exit(0)
        except SandboxError as e:
            pid = -1
            wire.send(other, (0, e.message, e.call, e.errno))
        except OSError as e:
            pid = -1
            wire.send(other, (0, f"{processes}: {e.strerror}", "open", e.errno or 0))
        if pid:
            os._exit(0)
        mine.close()
        other.close()
        return 0, -1, early
    other.close()
    message, fds = wire.receive(mine)
    mine.close()
    os.waitpid(helper, 0)
    if message is None or not message[0]:
        _, text, call, number = message or (0, "the process namespace can't be entered", "setns", 0)
        raise SandboxError(text, call=call, errno=number)
    return message[0], fds[0], None


def _start_attendant(run: _Run, link: _socket.socket, joined: int) -> None:
    from buildkit_py.sandbox import attendant

    run.attendant = os.fork()
    if run.attendant == 0:
        attendant.main(run.conn, link, run.pidfd, joined)
    run.attendant_pidfd = os.pidfd_open(run.attendant)


def _tell(conn: _socket.socket, message: wire.Message, fds: tuple[int, ...] = ()) -> None:
    try:
        wire.send(conn, message, fds)
    except OSError:
        pass


def _kill_if_abandoned(fd: int, runs: dict[int, _Run]) -> None:
    for run in runs.values():
        if run.conn.fileno() == fd:
            _kill(run)


def _reap(runs: dict[int, _Run], poll: select.poll) -> None:
    """Collect all dead children: sandboxes, those beside them, and what their dying left to us as
    process 1."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        run = runs.get(pid)
        if run is not None:
            code = os.waitstatus_to_exitcode(status)
            run.status = code if code >= 0 else 128 - code
            if run.host_pids:
                _kill_children(r.attendant for r in runs.values())
            poll.unregister(run.pidfd)
        else:
            run = next((r for r in runs.values() if r.attendant == pid), None)
            if run is None:
                continue
            run.attendant = 0
            poll.unregister(run.attendant_pidfd)
            os.close(run.attendant_pidfd)
            if run.status < 0:
                _bereaved(run)
        if run.status >= 0 and not run.attendant:
            del runs[run.pid]
            poll.unregister(run.conn)
            os.close(run.pidfd)
            _tell(run.conn, ("exit", run.status))
            run.conn.close()


def _kill_children(spared: Iterable[int]) -> None:
    """End what a sandbox leaves in the host's process namespace: our children, and theirs as they come
    to us."""
    kept = set(spared)
    while True:
        with open("/proc/thread-self/children") as f:
            left = {int(word) for word in f.read().split()} - kept
        if not left:
            return
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            os.waitpid(pid, 0)


def _bereaved(run: _Run) -> None:
    """Without the process beside it a sandbox would wait for answers for ever."""
    _tell(run.conn, ("error", "the process beside the sandbox has died", "attendant", 0, ""))
    _kill(run)


def _kill(run: _Run) -> None:
    try:
        signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
