"""Starting sandboxes from the main process.

``Launcher.start`` forks the starter (buildkit_py.sandbox.starter) while the process still has one thread;
``run`` may then be called from any thread, any number at once.
"""

from __future__ import annotations

import _socket
import _thread
import errno
import os
import signal

from buildkit_py.errors import SandboxError
from buildkit_py.linux import syscalls as sc
from buildkit_py.linux.identity import Identity
from buildkit_py.linux.ownership import Owner, decode
from buildkit_py.sandbox import layout, starter, stubs, wire
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.typed import Any

Heard = tuple[wire.Message, list[int]]
"""A message and its descriptors."""


class Running:
    """A sandbox that was started. ``wait`` it, from one thread; ``kill`` from any."""

    def __init__(
        self,
        conn: _socket.socket,
        pidfd: int,
        spec: SandboxSpec,
        early: list[Heard],
    ) -> None:
        self._conn = conn
        self._pidfd = pidfd
        self._process = -1
        self._lock = _thread.allocate_lock()
        """Over _pidfd: a closed descriptor's number may soon be another process's."""
        self._spec = spec
        self._error: SandboxError | None = None
        self._status: int | None = None
        self.pid = _pid_of(pidfd)
        """The sandbox's process 1 as this process sees it."""
        self.owners: dict[str, Owner] = {}
        """After wait(), in single mode: owners by path in ``upper`` of what can't carry OWNER_XATTR."""
        self.marked = False
        """After wait(), in single mode: whether some file was given OWNER_XATTR."""
        self.executing = False
        """Whether the sandbox is set up and about to become the command."""
        self.refusal = ""
        """Why the command can't be executed, where that was found out in time; it is on its stderr, too."""
        self.terminal = -1
        """The master of the terminal that a joined process made for itself; whoever takes it closes it."""
        self._made: list[Any] | None = None
        for message, fds in early:
            self._take(message, fds)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal the command (process 1 of the sandbox; SIGKILL takes all of the sandbox with it)."""
        with self._lock:
            if self._pidfd < 0:
                return
            try:
                signal.pidfd_send_signal(self._pidfd, signum)
            except ProcessLookupError:
                pass

    def wait(self) -> int:
        """The command's exit status, 128+n after signal n.

        SandboxError where the sandbox could not be set up. Afterwards no process of the sandbox is left.
        Interrupted (KeyboardInterrupt), it may be called again; so it may after the end.
        """
        while (status := self.advance()) is None:
            pass
        return status

    @property
    def process(self) -> int:
        """A descriptor (pidfd) of the sandbox's process 1. Raises SandboxError where it has ended."""
        if self._pidfd < 0:
            raise SandboxError("the container has ended", call="setns", errno=errno.ESRCH)
        return self._process if self._process >= 0 else self._pidfd

    def fileno(self) -> int:
        """Readable when there is something for ``advance``."""
        return self._conn.fileno()

    def advance(self) -> int | None:
        """Take one message of the sandbox, waiting for it: as ``wait`` once it has ended, else None."""
        if self._status is None:
            message, fds = wire.receive(self._conn)
            self._take(message, fds)
        if self._status is None:
            return None
        self._close()
        if self._error:
            raise self._error
        return self._status

    def _take(self, message: wire.Message | None, fds: list[int]) -> None:
        if message is None:
            self._status = 125
            self._error = SandboxError("the process that starts the sandboxes has died", call="starter")
            return
        kind, *values = message
        if kind == "exit":
            (self._status,) = values
        elif kind == "error":
            self._error = self._error or _error(values)
        elif kind == "executing":
            self.executing = True
        elif kind == "refused":
            (self.refusal,) = values
        elif kind == "terminal":
            (self.terminal,) = fds
        elif kind == "process":
            # The container's own first process, where a runtime made it.
            (self._process,) = fds
            self.pid = _pid_of(self._process)
        elif kind == "made":
            self._made = values
        elif kind == "owners":
            items, marked = values
            self.owners.update((path, decode(owner.encode())) for path, owner in items)
            self.marked = self.marked or marked

    def _close(self) -> None:
        with self._lock:
            if self._pidfd < 0:
                return
            os.close(self._pidfd)
            self._pidfd = -1
            if self._process >= 0:
                os.close(self._process)
                self._process = -1
        self._conn.close()
        if self._made:
            layer, made = self._made
            _clean(self._spec, layer, [stubs.Stub(*s) for s in made])


def _clean(spec: SandboxSpec, stub_layer: str, made: list[stubs.Stub]) -> None:
    if stub_layer:
        stubs.discard(stub_layer)
    if spec.tree:
        stubs.remove(spec.tree, made, ())
    elif spec.upper:
        stubs.remove(spec.upper, made, spec.layers)


def _untimely(said: list[Heard]) -> SandboxError:
    """Why a sandbox ended before it began."""
    for fd in [fd for _, fds in said for fd in fds]:
        os.close(fd)
    for message, _ in said:
        if message[0] == "error":
            return _error(list(message[1:]))
    return SandboxError("the process that starts the sandboxes has died", call="starter")


def _error(values: list[Any]) -> SandboxError:
    message, call, number, hint = values
    return SandboxError(message, call=call, errno=number, hint=hint)


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as f:
        for line in f:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return -1


class Launcher:
    def __init__(self, control: _socket.socket, pid: int, mode: str) -> None:
        self._control = control
        self.starter = pid
        """The process that starts the sandboxes."""
        self._child = True
        """Whether it is to be waited for."""
        self.mode = mode

    @classmethod
    def start(cls, identity: Identity, *, stubs_in: str = "", host_pids: bool = False) -> Launcher:
        """Fork the starter; before any thread exists.

        ``host_pids``: without a process namespace, for sandboxes that keep the host's.
        ``stubs_in``: a directory of the store, on the file system of its snapshots, for the mount points
        that images lack; without it they are made anew for each run.
        """
        base_stub = base_stubs(stubs_in) if stubs_in else ""
        mine, other = wire.pair()
        pid, pidfd = sc.clone(0 if host_pids else sc.CLONE_NEWPID)
        if pid == 0:
            starter.main(other, identity.mode, base_stub)
        other.close()
        os.close(pidfd)
        return cls(mine, pid, identity.mode)

    def run(self, spec: SandboxSpec, *, stdin: int, stdout: int, stderr: int, namespace: int = -1) -> Running:
        """Start a sandbox on three open descriptors (they stay the caller's).

        ``namespace``: the network namespace that it enters, where the network isn't the host's; without it
        it makes its own.
        """
        fds = (stdin, stdout, stderr) + ((namespace,) if namespace >= 0 else ())
        shared = dict(spec.shared)
        others = (*spec.host, *shared)
        return self._begin(("run", spec.network, spec.platform, others, shared.get("pid", "")), fds, spec)

    def join(self, running: Running, spec: SandboxSpec, *, stdin: int, stdout: int, stderr: int) -> Running:
        """Start one more process in a sandbox: of the spec, its command, user and limits count.

        With ``terminal`` it makes one of the sandbox's own, whatever its streams are (Running.terminal).
        """
        return self._begin(("join",), (stdin, stdout, stderr, running.process), spec)

    def _begin(self, request: wire.Message, fds: tuple[int, ...], spec: SandboxSpec) -> Running:
        mine, other = wire.pair()
        try:
            wire.send(self._control, request, (other.fileno(), *fds))
            other.close()
            if self.mode == "single":
                spec = spec._replace(env=(f"APT_CONFIG=/dev/{layout.APT_CONFIG}", *spec.env))
            wire.send_spec(mine, spec)
            # The sandbox itself may be quicker with a word than the starter is.
            early: list[Heard] = []
            while True:
                message, received = wire.receive(mine)
                if message is None or message[0] == "exit":
                    raise _untimely(early)
                if message[0] == "started":
                    return Running(mine, received[0], spec, early)
                early.append((message, received))
        except OSError as e:
            mine.close()
            raise SandboxError(
                f"the process that starts the sandboxes is gone: {e.strerror}", call="starter"
            ) from e
        except BaseException:
            mine.close()
            raise

    def fileno(self) -> int:
        return self._control.fileno()

    def close(self) -> None:
        """End the starter, and with it every sandbox that still runs. One that another process holds as well
        is let go."""
        self._control.close()
        if self._child:
            os.waitpid(self.starter, 0)
            self._child = False


def base_stubs(folder: str) -> str:
    """The stub layer of a RUN without mounts, made once a store. Any number of processes may try."""
    path = os.path.join(folder, "base")
    if os.path.isdir(path):
        return path
    os.makedirs(folder, mode=0o700, exist_ok=True)
    made = f"{path}.{os.urandom(6).hex()}"
    os.mkdir(made)
    os.chmod(made, 0o755)
    stubs.fill(made, layout.BASE_PLACES)
    try:
        os.rename(made, path)
    except OSError:
        stubs.discard(made)
    return path
