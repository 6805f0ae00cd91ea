"""A sandbox that an OCI runtime sets up (``--runtime``): its first process as the runtime's caller.

It mounts the root file system and makes the bundle, has the runtime create and start the container, and
stays: the container's first process becomes its child (it is process 1 of a namespace, or a subreaper), so
it knows how that ended; it passes signals on, and the terminal's bytes, for the runtime hands out the
terminal that it made. When it is killed, the kernel kills the container with it, as any sandbox.

    bundle/config.json, rootfs    as the OCI runtime spec has them
    bundle/files/                 what the container gets of files that are ours: /etc/hosts and the like
    bundle/state, log, pid        the runtime's
    bundle/workbench              buildkit_py.sandbox.root's
"""

from __future__ import annotations

import _socket
import array
import errno
import fcntl
import json
import os
import select
import signal
import stat
import termios
import tty

from buildkit_py.errors import SandboxError
from buildkit_py.linux import cgroups, init, mounts, trampoline
from buildkit_py.linux import syscalls as sc
from buildkit_py.oci import defaults
from buildkit_py.sandbox import layout, oci, process, root, wire
from buildkit_py.sandbox.spec import SandboxSpec

_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_PASSED = tuple(n for n in signal.Signals if n not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD))
_CHUNK = 64 << 10
_NOT_FOUND = ("not found", "no such file or directory")


def run(conn: _socket.socket, spec: SandboxSpec, *, mode: str, base_stub: str) -> tuple[int, str]:
    """Run the container to its end: its exit status, and why the command could not be executed. Raises
    SandboxError. The network is entered already."""
    sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    _set_network_sysctls(spec)
    os.chdir(spec.bundle)
    for name in ("rootfs", "workbench"):
        os.mkdir(name, 0o755)
    builder = root.Root(spec, mode=mode, base_stub=base_stub)
    top = builder.bare("workbench")
    if builder.stubs or builder.stub_layer:
        wire.send(conn, ("made", builder.stub_layer, [tuple(s) for s in builder.stubs]))
    sc.move_mount(top, sc.AT_FDCWD, "rootfs")
    if spec.init:
        spec = spec._replace(args=(oci.INIT, _look_up(top, spec), *spec.args))
    if "pid" not in spec.host:
        # The runtime looks itself up there.
        mounts.attach(mounts.proc(host=False), os.open("/proc", os.O_PATH | os.O_CLOEXEC), "/proc")
    _write_bundle(spec, mode)
    if _is_crun(spec):
        _hide_hybrid()
    runtime = _Runtime(spec, mode)
    console = _console() if spec.terminal else None
    status = runtime.call(
        "create", "--pid-file", "pid", *(("--console-socket", "console") if console else ())
    )
    if status:
        return runtime.failed()
    with open("pid") as f:
        pid = int(f.read())
    pidfd = os.pidfd_open(pid)
    wire.send(conn, ("process",), (pidfd,))
    terminal = _receive_terminal(console) if console else -1
    caller = _Caller(pid, terminal)
    if runtime.call("start"):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return runtime.failed()
    wire.send(conn, ("executing",))
    return caller.wait(), ""


def _set_network_sysctls(spec: SandboxSpec) -> None:
    """Ours, for runtimes want a network namespace of their own making for them."""
    settings = tuple((name, value) for name, value in spec.sysctls if name.startswith("net."))
    if spec.keep_id is not None and spec.network != "host":
        settings = (("net.ipv4.ip_unprivileged_port_start", "0"), *settings)
    fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        root.set_sysctls(fd, settings)
    finally:
        os.close(fd)


def _write_bundle(spec: SandboxSpec, mode: str) -> None:
    os.mkdir("files", 0o755)
    files = {}
    for number, mount in enumerate(m for m in layout.mounts(spec) if m.kind == "file"):
        path = files[mount.target] = f"{spec.bundle}/files/{number}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as f:
            f.write(mount.data)
        os.chmod(path, mount.mode)
        if (mount.uid or mount.gid) and mode != "single":
            os.chown(path, mount.uid, mount.gid)
    if spec.init:
        files[oci.INIT] = _write_init(spec)
    cgroup = f"/{_group_of(spec)}/runtime" if mode == "root" and spec.cgroups else ""
    _, permitted, _ = sc.capget()
    document = oci.document(spec, mode=mode, permitted=permitted, files=files, cgroup=cgroup)
    with open("config.json", "w") as f:
        json.dump(document, f, indent=1)


def _look_up(top: int, spec: SandboxSpec) -> str:
    """The path of the command, which the runtime would look up itself; where there is none, as given."""
    name = spec.args[0] if spec.args else ""
    path = next((e[5:] for e in spec.env if e.startswith("PATH=")), defaults.PATH)
    for folder in [] if "/" in name else path.split(":"):
        found = mounts.resolve(top, f"{folder}/{name}")
        if found >= 0:
            mode = os.fstat(found).st_mode
            os.close(found)
            if stat.S_ISREG(mode) and mode & 0o111:
                return f"{folder}/{name}"
    return name


def _write_init(spec: SandboxSpec) -> str:
    """The program of ``--init`` for the bundle."""
    path = f"{spec.bundle}/files/init"
    name = spec.args[2] if len(spec.args) > 2 else ""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as f:
        failures = process.failures(name)
        if "/" not in spec.args[1]:
            words = f'exec: "{name}": executable file not found in $PATH\n'.encode("utf-8", "surrogateescape")
            failures[0] = failures[0]._replace(message=words)
        f.write(trampoline.program(failures, init.CODE, named=True))
    os.chmod(path, 0o555)
    return path


def _group_of(spec: SandboxSpec) -> str:
    """The path of the container's control group from its hierarchy's root: the same in each."""
    found = cgroups.hierarchies()
    own = spec.cgroups[0]
    mounts_ = filter(None, (found.unified, *found.single.values()))
    return next(own[len(mount) + 1 :] for mount in mounts_ if own.startswith(f"{mount}/"))


def _is_crun(spec: SandboxSpec) -> bool:
    return os.path.basename(spec.runtime).startswith("crun")


def _hide_hybrid() -> None:
    """crun refuses to work beside control groups of version 1 where version 2 has controllers too: it gets
    to see those of version 1 alone."""
    found = cgroups.hierarchies()
    if found.unified and found.single:
        place = os.open(found.unified, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.attach(mounts.new("tmpfs", (), mounts.PLAIN), place, found.unified)


class _Runtime:
    """Calls of the runtime's program, all for one container."""

    def __init__(self, spec: SandboxSpec, mode: str) -> None:
        self._spec = spec
        self._options = ["--root", "state", "--log", "log", "--log-format", "json"]
        if _is_crun(spec) and mode != "root":
            # It would want to make a group, and an ordinary user has none to make it in.
            self._options += ["--cgroup-manager", "disabled"]
        self._name = os.path.basename(os.path.dirname(spec.bundle))

    def call(self, operation: str, *options: str) -> int:
        """The exit status. The container's streams are handed over at its creation."""
        argv = [self._spec.runtime, *self._options, operation]
        argv += ["--bundle", "."] if operation == "create" else []
        argv += [*options, self._name]
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        hide = operation != "create" or self._spec.terminal
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)] if hide else []
        try:
            pid = os.posix_spawn(self._spec.runtime, argv, _ENV, file_actions=actions)
        except OSError as e:
            raise SandboxError(
                f"{self._spec.runtime}: {e.strerror}", call="posix_spawn", errno=e.errno or errno.EIO
            ) from e
        finally:
            os.close(null)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def failed(self) -> tuple[int, str]:
        """What a failed call means: the exit status and the words where the command can't be executed.
        Raises SandboxError for all else."""
        words = self._words()
        lower = words.lower()
        about_command = "exec" in lower or (bool(self._spec.args) and self._spec.args[0] in words)
        if about_command and "permission denied" in lower:
            return process.NOT_EXECUTABLE, words
        if about_command and any(text in lower for text in _NOT_FOUND):
            return process.NOT_FOUND, words
        name = os.path.basename(self._spec.runtime)
        raise SandboxError(f"{name} could not make the container: {words}", call=name)

    def _words(self) -> str:
        try:
            with open("log", encoding="utf-8", errors="replace") as f:
                lines = [json.loads(line) for line in f if line.strip()]
            errors = [str(line["msg"]) for line in lines if line.get("level") in ("error", "fatal")]
            return errors[-1].strip() if errors else "it gives no reason"
        except (OSError, ValueError, KeyError, TypeError):
            return "it gives no reason"


# The terminal


def _console() -> _socket.socket:
    """Where the runtime sends the terminal that it makes."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    sock.bind("console")
    sock.listen(1)
    return sock


def _receive_terminal(console: _socket.socket) -> int:
    fd, _ = console._accept()  # type: ignore[attr-defined]
    sock = _socket.socket(fileno=fd)
    try:
        _, ancillary, _, _ = sock.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data[:4])
        return fds[0]
    finally:
        sock.close()
        console.close()
        os.unlink("console")


class _Caller:
    """Waits for the container's first process, between it and us."""

    def __init__(self, pid: int, terminal: int) -> None:
        self._pid = pid
        self._terminal = terminal
        self._wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        for number in (*_PASSED, signal.SIGCHLD):
            try:
                signal.signal(number, lambda *_: None)
            except (OSError, ValueError):
                pass
        if terminal >= 0:
            tty.setraw(0, termios.TCSANOW)
            self._resize()

    def wait(self) -> int:
        """The exit status, 128+n after signal n."""
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        if self._terminal >= 0:
            poll.register(0, select.POLLIN)
            poll.register(self._terminal, select.POLLIN)
        status = self._reap()
        while status is None:
            for fd, _ in poll.poll():
                if fd == self._wake_r:
                    status = self._signalled() if status is None else status
                elif fd == 0:
                    if not _copy(0, self._terminal):
                        poll.unregister(0)
                elif not _copy(self._terminal, 1):
                    poll.unregister(self._terminal)
        while self._terminal >= 0 and _copy(self._terminal, 1):
            pass
        return status

    def _signalled(self) -> int | None:
        for number in os.read(self._wake_r, 256):
            if number == signal.SIGWINCH and self._terminal >= 0:
                self._resize()
            elif number != signal.SIGCHLD:
                try:
                    os.kill(self._pid, number)
                except ProcessLookupError:
                    pass
        return self._reap()

    def _reap(self) -> int | None:
        status = None
        while True:
            try:
                pid, found = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return status
            if pid == 0:
                return status
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(found)
                status = code if code >= 0 else 128 - code

    def _resize(self) -> None:
        try:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)
        except OSError:
            pass


def _copy(source: int, target: int) -> bool:
    """Pass on what is there; False at the end."""
    try:
        data = os.read(source, _CHUNK)
        while data:
            written = os.write(target, data)
            if written == len(data):
                return True
            data = data[written:]
    except OSError:
        # The other side of the terminal is closed.
        pass
    return False
