"""The sandbox's first process: sets everything up and becomes the command.

Imported by the starter before the first run, so that all of it is in memory: after ``root.enter`` the
old root, with Python's library, is gone. Only the standard library and buildkit_py.linux.
"""

from __future__ import annotations

import _socket
import errno
import os
import signal

from buildkit_py.errors import SandboxError
from buildkit_py.linux import seccomp
from buildkit_py.linux import syscalls as sc
from buildkit_py.network import devices
from buildkit_py.sandbox import attendant, process, root, wire
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import NoReturn

SETUP_FAILED = 125


class Settings(NamedTuple):
    """What all sandboxes of a starter have in common."""

    mode: str
    base_stub: str
    confined: bytes
    """The default seccomp filter, as a BPF program."""
    open: bytes
    """The one that allows everything; empty for none."""

    def filter(self, spec: SandboxSpec) -> bytes:
        """The filter of a sandbox; compiled here where it is not one that all have."""
        if spec.seccomp == "unconfined":
            return self.open
        emulate = self.mode == "single"
        if spec.seccomp != "default":
            from buildkit_py.linux import profile

            return seccomp.program(emulate=emulate, profile=profile.from_tuples(spec.seccomp))
        if seccomp.opened(spec.capabilities):
            return seccomp.program(emulate=emulate, capabilities=spec.capabilities)
        return self.confined


class Early(NamedTuple):
    """What was done before the first process was put among those of another sandbox, who might look."""

    spec: SandboxSpec
    users: int
    """A descriptor of the user namespace that it is to enter; -1: none."""


def begin(conn: _socket.socket, mode: str) -> Early:
    """For who will make the first process; both are hidden from then on. Raises SandboxError, EOFError."""
    spec = wire.receive_spec(conn)
    process.set_oom_score(spec)
    emulated = mode == "single" and bool(spec.uid or spec.gid)
    users = -1
    if emulated or spec.processes or spec.keep_id is not None:
        users = process.made_user_namespace(spec, emulated=emulated)
    process.hide()
    return Early(spec, users)


def main(
    conn: _socket.socket,
    link: _socket.socket | None,
    streams: tuple[int, int, int],
    settings: Settings,
    namespace: int,
    early: Early | None,
) -> NoReturn:
    """Read the spec from ``conn``, set up, exec. Reports on ``conn``; never returns.

    ``link`` leads to the process beside the sandbox (buildkit_py.sandbox.attendant) where there is one,
    ``namespace`` (a descriptor) to a network namespace that was made for it.
    """
    status = SETUP_FAILED
    try:
        process.take_streams(*streams)
        spec = early.spec if early is not None else wire.receive_spec(conn)
        if spec.runtime:
            status = _by_runtime(conn, link, spec, settings, namespace)
        else:
            program = forehand(spec, settings)
            mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            prepare(conn, link, spec, settings, namespace, early)
            become(spec, settings, program, link, mounts)
            status = execute(conn, spec)
    except BaseException as e:
        report(conn, e)
    finally:
        os._exit(status)


def forehand(spec: SandboxSpec, settings: Settings) -> bytes:
    """What needs files of ours, or a module, comes before the old root goes; the filter's program."""
    if spec.tool:
        from buildkit_py.sandbox import tool as tool
    return settings.filter(spec)


def _by_runtime(
    conn: _socket.socket,
    link: _socket.socket | None,
    spec: SandboxSpec,
    settings: Settings,
    namespace: int,
) -> int:
    """The same by an OCI runtime: to the container's end."""
    from buildkit_py.sandbox import foreign

    os.umask(0o022)
    process.take_terminal(spec)
    if "pid" in spec.host:
        die_with_the_starter()
    if settings.mode != "root":
        process.enter_cgroups(spec)
    if spec.network != "host":
        _begin_network(spec, link, namespace)
        _finish_network(spec, link)
    status, refusal = foreign.run(conn, spec, mode=settings.mode, base_stub=settings.base_stub)
    if refusal:
        wire.send(conn, ("refused", refusal))
    return status


def execute(conn: _socket.socket, spec: SandboxSpec) -> int:
    """Become the command. Returns only where that failed, and for a tool: the exit status."""
    if spec.tool:
        from buildkit_py.sandbox import tool

        wire.send(conn, ("executing",))
        return tool.run(spec)
    status, refusal = process.execute(spec, lambda: wire.send(conn, ("executing",)))
    wire.send(conn, ("refused", refusal))
    return status


def prepare(
    conn: _socket.socket,
    link: _socket.socket | None,
    spec: SandboxSpec,
    settings: Settings,
    namespace: int,
    early: Early | None,
) -> None:
    os.umask(0o022)
    process.take_terminal(spec)
    if "pid" in spec.host or "pid" in dict(spec.shared):
        die_with_the_starter()
    if early is None:
        process.set_oom_score(spec)
    process.enter_cgroups(spec)
    if spec.network != "host":
        _begin_network(spec, link, namespace)
    process.join(spec)
    if "uts" not in spec.host and "uts" not in dict(spec.shared):
        sc.sethostname(spec.hostname)
        if spec.domainname:
            sc.setdomainname(spec.domainname)
    builder = root.Root(spec, mode=settings.mode, base_stub=settings.base_stub)
    top = builder.build()
    if builder.stubs or builder.stub_layer:
        wire.send(conn, ("made", builder.stub_layer, [tuple(s) for s in builder.stubs]))
    _finish_network(spec, link)
    root.enter(top)
    process.reopen_terminal(spec)
    process.go_to(spec.cwd)
    process.set_limits(spec)
    if early is None:
        process.enter_user_namespaces(spec)
        if settings.mode == "single" and (spec.uid or spec.gid):
            process.take_emulated_user(spec, os.open("/proc/self", os.O_PATH | os.O_CLOEXEC))
    elif early.users >= 0:
        process.join_user_namespace(early.users, spec)
    if "pid" in spec.host:
        process.hide()
    sc.close_range(3, flags=sc.CLOSE_RANGE_CLOEXEC)


def become(
    spec: SandboxSpec, settings: Settings, program: bytes, link: _socket.socket | None, mounts: int
) -> None:
    """Take on the command's user, capabilities and filter. ``mounts``: the sandbox's mount namespace."""
    process.leave_keys(spec)
    if settings.mode == "single":
        process.become_emulated(spec, program, link, mounts)
    else:
        process.become(spec, program)


def die_with_the_starter() -> None:
    """Without a process namespace of ours the kernel would let a sandbox live on. Not after a set-uid
    program, for which the kernel forgets this."""
    sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)


def _begin_network(spec: SandboxSpec, link: _socket.socket | None, namespace: int) -> None:
    """Enter the network namespace. A private one is connected while the root is built."""
    if namespace >= 0:
        sc.setns(namespace, sc.CLONE_NEWNET)
    else:
        sc.unshare(sc.CLONE_NEWNET)
    devices.bring_up()
    if spec.network == "private" and link is not None:
        attendant.request_network(link)


def _finish_network(spec: SandboxSpec, link: _socket.socket | None) -> None:
    if spec.network != "private" or link is None:
        return
    attendant.await_answer(link)
    if not devices.wait_for("eth0", 10):
        raise SandboxError(
            "the private network did not come up", call="eth0", hint="use the host's: --network=host"
        )


def report(conn: _socket.socket, error: BaseException) -> None:
    """Tell the main process why the command could not be run."""
    if isinstance(error, EOFError):
        # It is gone.
        return
    words = (f"{type(error).__name__}: {error}", "", errno.EIO, "")
    if isinstance(error, SandboxError):
        words = (error.message, error.call, error.errno, error.hint)
    elif isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        words = (what, "", error.errno or errno.EIO, "")
    try:
        wire.send(conn, ("error", *words))
    except OSError:
        pass
