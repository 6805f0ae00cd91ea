"""Starting sandboxes from the main process.

``Launcher.start`` forks the helper (buildkit_py.sandbox.helper) while the process still has one thread;
``run`` may then be called from any thread, any number at once.
"""

from __future__ import annotations

import _socket
import os
import signal

from buildkit_py.errors import SandboxError
from buildkit_py.linux import syscalls as sc
from buildkit_py.linux.identity import Identity
from buildkit_py.sandbox import helper, layout, stubs, wire
from buildkit_py.sandbox.spec import SandboxSpec


class Running:
    """A sandbox that was started. ``wait`` it, from one thread; ``kill`` from any."""

    def __init__(self, conn: _socket.socket, pidfd: int, spec: SandboxSpec) -> None:
        self._conn = conn
        self._pidfd = pidfd
        self._spec = spec
        self._error: SandboxError | None = None
        self._status: int | None = None
        self.pid = _pid_of(pidfd)
        """The sandbox's process 1 as this process sees it."""

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal the command (process 1 of the sandbox; SIGKILL takes all of the sandbox with it)."""
        if self._pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signum)
        except ProcessLookupError:
            pass

    def wait(self) -> int:
        """The command's exit status, 128+n after signal n.

        SandboxError where the sandbox could not be set up. Afterwards no process of the sandbox is left.
        """
        try:
            while self._status is None:
                message, _ = wire.receive(self._conn)
                self._take(message)
        finally:
            self._close()
        if self._error:
            raise self._error
        return self._status

    def _take(self, message: wire.Message | None) -> None:
        if message is None:
            self._status = 125
            self._error = SandboxError("the process that starts the sandboxes has died", call="helper")
            return
        kind, *values = message
        if kind == "exit":
            (self._status,) = values
        elif kind == "error":
            self._error = _error(values)
        elif kind == "made":
            self._made = values

    _made: list[object] | None = None

    def _close(self) -> None:
        if self._pidfd < 0:
            return
        self._conn.close()
        os.close(self._pidfd)
        self._pidfd = -1
        if self._made:
            layer, made = self._made
            _clean(self._spec, str(layer), [stubs.Stub(*s) for s in made])  # type: ignore[attr-defined]


def _clean(spec: SandboxSpec, stub_layer: str, made: list[stubs.Stub]) -> None:
    if stub_layer:
        import shutil

        shutil.rmtree(stub_layer, ignore_errors=True)
    if spec.tree:
        stubs.remove(spec.tree, made, ())
    elif spec.upper:
        stubs.remove(spec.upper, made, spec.layers)


def _error(values: list[object]) -> SandboxError:
    message, call, number, hint = values
    return SandboxError(str(message), call=str(call), errno=int(str(number)), hint=str(hint))


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as f:
        for line in f:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return -1


class Launcher:
    def __init__(self, control: _socket.socket, pid: int) -> None:
        self._control = control
        self._pid = pid

    @classmethod
    def start(cls, identity: Identity, *, stubs_in: str = "") -> Launcher:
        """Fork the helper; before any thread exists.

        ``stubs_in``: a directory of the store, on the file system of its snapshots, for the mount points
        that images lack; without it they are made anew for each run.
        """
        base_stub = _base_stub(stubs_in) if stubs_in else ""
        mine, other = wire.pair()
        pid, pidfd = sc.clone(sc.CLONE_NEWPID)
        if pid == 0:
            helper.main(other, identity.mode, base_stub)
        other.close()
        os.close(pidfd)
        return cls(mine, pid)

    def run(self, spec: SandboxSpec, *, stdin: int, stdout: int, stderr: int) -> Running:
        """Start a sandbox on three open descriptors (they stay the caller's)."""
        mine, other = wire.pair()
        pidfds: list[int] = []
        try:
            wire.send(self._control, ("run",), (other.fileno(), stdin, stdout, stderr))
            other.close()
            wire.send_spec(mine, spec)
            message, pidfds = wire.receive(mine)
            if message is not None and message[0] == "error":
                raise _error(list(message[1:]))
            if not pidfds:
                raise SandboxError("the process that starts the sandboxes has died", call="helper")
            return Running(mine, pidfds[0], spec)
        except OSError as e:
            mine.close()
            raise SandboxError(
                f"the process that starts the sandboxes is gone: {e.strerror}", call="helper"
            ) from e
        except BaseException:
            mine.close()
            raise

    def close(self) -> None:
        """End the helper, and with it every sandbox that still runs."""
        if self._pid < 0:
            return
        self._control.close()
        os.waitpid(self._pid, 0)
        self._pid = -1


def _base_stub(folder: str) -> str:
    """The stub layer of a RUN without mounts, made once a store. Any number of processes may try."""
    path = os.path.join(folder, "base")
    if os.path.isdir(path):
        return path
    import shutil
    import tempfile

    os.makedirs(folder, mode=0o700, exist_ok=True)
    made = tempfile.mkdtemp(dir=folder)
    os.chmod(made, 0o755)
    stubs.fill(made, layout.BASE_PLACES)
    try:
        os.rename(made, path)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
    return path
