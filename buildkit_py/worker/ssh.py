"""``RUN --mount=type=ssh``: a socket in the sandbox that leads to the user's SSH agent, or to one for the
key files that ``--ssh`` names.

The agent's own socket can't be mounted as it is: ssh-agent(1) answers its own user only, and a step may run
as any. So each step gets a socket of its own, with the mode and owner that the mount wants, and what is
said there is passed on by us. It is gone when the step ends.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from buildkit_py.errors import PybuildError, StepError, UsageError
from buildkit_py.linux.userns import find
from buildkit_py.llb.ops import Mount
from buildkit_py.request import SshSpec
from buildkit_py.sandbox.spec import SandboxMount
from buildkit_py.source.temporary import TemporaryDirectory
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

_CONNECTIONS = 64
_CHUNK = 65536


class Agents:
    """The agents that a build was given, by id. Threads may share it; ``close`` ends what was started."""

    def __init__(self, specs: Sequence[SshSpec], root: str) -> None:
        """Raises UsageError for a path that is neither a socket nor a file."""
        self._root = root
        self._lock = threading.Lock()
        self._specs = {spec.id: spec for spec in specs}
        self._sockets: dict[str, str] = {}
        self._stack = ExitStack()
        for spec in specs:
            _check(spec)

    def socket(self, name: str) -> str:
        """The path of an agent's socket; "" where the build wasn't given one of this id."""
        spec = self._specs.get(name)
        if spec is None:
            return ""
        with self._lock:
            if name not in self._sockets:
                if not spec.paths:
                    found = os.environ["SSH_AUTH_SOCK"]
                elif _is_socket(spec.paths[0]):
                    found = os.path.abspath(spec.paths[0])
                else:
                    found = self._start(spec)
                self._sockets[name] = found
            return self._sockets[name]

    def _start(self, spec: SshSpec) -> str:
        """An agent that holds the key files. It ends with its command, a cat, and that with the pipe that we
        hold: whatever ends us, no keys are left in memory."""
        import subprocess

        agent, add = find("ssh-agent"), find("ssh-add")
        if not agent or not add:
            raise PybuildError(
                "--ssh with key files needs ssh-agent and ssh-add, which are not installed",
                hint="sudo apt-get install openssh-client, or give the socket of an agent",
            )
        folder = self._stack.enter_context(TemporaryDirectory(self._root)).path
        os.chmod(folder, 0o700)
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        process = subprocess.Popen(
            [agent, "-a", "agent", "/bin/sh", "-c", 'echo "$SSH_AGENT_PID"; exec cat'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
        self._stack.callback(_end, process, _pid_told(process))
        path = os.path.join(folder, "agent")
        done = subprocess.run(
            [add, "-q", "--", *map(os.path.abspath, spec.paths)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            # A path relative to the folder: an address has 107 bytes at most.
            cwd=folder,
            env={**env, "SSH_AUTH_SOCK": "agent", "SSH_ASKPASS_REQUIRE": "never"},
            start_new_session=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["ssh-add failed"]
            raise PybuildError(
                f"--ssh {spec.id}: the keys can't be used: {said[-1]}",
                hint="keys with a passphrase must be in an agent: ssh-add KEY, then --ssh " + spec.id,
            )
        return path

    def close(self) -> None:
        self._stack.close()


def mount_agent(agents: Agents | None, mount: Mount, root: str, stack: ExitStack) -> SandboxMount | None:
    """The mount of a socket; None where there is no agent and none is required.

    The socket and what serves it are gone when ``stack`` ends. Raises StepError.
    """
    agent = agents.socket(mount.id) if agents is not None else ""
    if not agent:
        if mount.required:
            raise StepError(
                f"the SSH agent {mount.id!r} is required and was not given",
                hint=f"give it with --ssh {mount.id}",
            )
        return None
    folder = stack.enter_context(TemporaryDirectory(root)).path
    relay = stack.enter_context(Relay(folder, agent))
    with suppress(OSError):
        os.chown(relay.path, mount.uid, mount.gid)
    os.chmod(relay.path, 0o600 if mount.mode < 0 else mount.mode)
    return SandboxMount("bind", mount.target, source=relay.path, readonly=False)


class Relay:
    """A socket ``agent`` in a folder of ours; each connection is passed on to another socket."""

    def __init__(self, folder: str, agent: str) -> None:
        self.path = os.path.join(folder, "agent")
        self._folder = folder
        self._agent = agent
        self._listener = socket.socket(socket.AF_UNIX)
        self._wake_r, self._wake_w = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="ssh agent", daemon=True)

    def __enter__(self) -> Relay:
        with _short(self.path) as path:
            self._listener.bind(path)
        self._listener.listen(_CONNECTIONS)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._wake_w, b"x")
        self._thread.join()
        self._listener.close()
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _serve(self) -> None:
        """Pairs of connections, by one thread: what comes on one side goes to the other."""
        peers: dict[socket.socket, socket.socket] = {}
        try:
            while True:
                watched: list[int | socket.socket] = [self._wake_r, *peers]
                if len(peers) < 2 * _CONNECTIONS:
                    watched.append(self._listener)
                ready, _, _ = select.select(watched, [], [])
                for one in ready:
                    if isinstance(one, int):
                        return
                    if one is self._listener:
                        self._accept(peers)
                    elif one in peers and not _pass_on(one, peers[one]):
                        other = peers.pop(one)
                        del peers[other]
                        one.close()
                        other.close()
        finally:
            for connection in peers:
                connection.close()

    def _accept(self, peers: dict[socket.socket, socket.socket]) -> None:
        near, _ = self._listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            with _short(self._agent) as path:
                far.connect(path)
        except OSError:
            near.close()
            far.close()
            return
        # Somebody who never reads must not hold up the others.
        near.settimeout(5.0)
        far.settimeout(5.0)
        peers[near], peers[far] = far, near


def _pass_on(one: socket.socket, other: socket.socket) -> bool:
    """Whether the connection lives on."""
    try:
        data = one.recv(_CHUNK)
        if data:
            other.sendall(data)
    except OSError:
        return False
    return bool(data)


class _short:
    """A name of a socket's path that is short enough for an address."""

    def __init__(self, path: str) -> None:
        folder, self._name = os.path.split(path)
        self._fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _check(spec: SshSpec) -> None:
    if not spec.paths:
        if not os.environ.get("SSH_AUTH_SOCK"):
            raise UsageError(
                f"--ssh {spec.id}: no SSH agent is running (SSH_AUTH_SOCK is not set)",
                hint=f"start one with `eval $(ssh-agent)`, or give a key file: --ssh {spec.id}=KEY",
            )
        return
    for path in spec.paths:
        if _is_socket(path) and len(spec.paths) > 1:
            raise UsageError(f"--ssh {spec.id}: {path} is a socket: give either one socket or key files")
        if not _is_socket(path) and not os.path.isfile(path):
            raise UsageError(f"--ssh {spec.id}: there is no socket or key file {path}")


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _pid_told(process: subprocess.Popen[bytes]) -> int:
    """A descriptor of the agent's process, -1 where it didn't start: ssh-add tells then why."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    try:
        return os.pidfd_open(int(line))
    except (ValueError, OSError):
        return -1


def _end(process: subprocess.Popen[bytes], agent: int) -> None:
    """End cat and the agent, which would notice by itself within ten seconds."""
    import signal

    process.communicate()
    if agent >= 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(agent, signal.SIGTERM)
        select.select([agent], [], [], 5.0)
        os.close(agent)
