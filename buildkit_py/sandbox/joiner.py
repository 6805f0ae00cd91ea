"""One more process in a sandbox that runs: ``exec``, and what reads and writes files there (``cp``).

Forked by the starter, of which all modules are in memory; enters the sandbox's namespaces and, as those of
processes are for children only, forks the command there and waits for it. Between the two nothing is looked
up in the sandbox: its files are not ours to run.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import select
import stat
import struct
import sys
import termios

from buildkit_py.errors import SandboxError
from buildkit_py.linux import syscalls as sc
from buildkit_py.sandbox import child, process, wire
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.typed import NoReturn

_KINDS = {
    "mnt": sc.CLONE_NEWNS,
    "pid": sc.CLONE_NEWPID,
    "ipc": sc.CLONE_NEWIPC,
    "uts": sc.CLONE_NEWUTS,
    "net": sc.CLONE_NEWNET,
    "cgroup": sc.CLONE_NEWCGROUP,
}
_LOOKS, _LOOK = 100, 5
"""How often, and every how many milliseconds."""
_NS_GET_PARENT = 0xB702
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_PTMX = os.makedev(5, 2)


def main(
    conn: _socket.socket,
    link: _socket.socket | None,
    streams: tuple[int, int, int],
    settings: child.Settings,
    pidfd: int,
) -> NoReturn:
    """Join the sandbox of ``pidfd``; read the spec of the command from ``conn``, run it and wait for it."""
    status = child.SETUP_FAILED
    try:
        process.take_streams(*streams)
        spec = wire.receive_spec(conn)
        program = child.forehand(spec, settings)
        process.set_oom_score(spec)
        _await_program(pidfd)
        groups = [os.open(f"{d}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for d in spec.cgroups]
        users = _users(pidfd) if spec.processes or spec.keep_id else -1
        mounts = os.open(f"/proc/{_number(pidfd)}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        own = os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
        # A tool is to see the container's files, and none of it is to see the tool.
        sc.setns(pidfd, sc.CLONE_NEWNS if spec.tool else _differing(pidfd))
        if settings.mode == "single" and (spec.uid or spec.gid):
            # It writes files of /proc that a hidden process can't write.
            if users >= 0:
                process.join_user_namespace(users, spec)
            process.take_emulated_user(spec, own)
            users = -1
        if not (spec.tool and settings.mode == "single"):
            process.hide()
        pid, pidfd = sc.clone(0)
        if pid == 0:
            _become(conn, link, spec, settings, program, groups, users, mounts)
        wire.send(conn, ("started",), (pidfd,))
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        status = code if code >= 0 else 128 - code
    except BaseException as e:
        child.report(conn, e)
    finally:
        os._exit(status)


def _number(pidfd: int) -> str:
    with open(f"/proc/self/fdinfo/{pidfd}") as f:
        pid = next(line.split()[1] for line in f if line.startswith("Pid:"))
    if pid == "-1":
        raise SandboxError("the container has ended", call="setns", errno=errno.ESRCH)
    return pid


def _await_program(pidfd: int) -> None:
    """A sandbox with other sandboxes' processes is hidden until it has become its program (process.hide): a
    moment after it said so, or not at all where that is a set-uid one."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    for _ in range(_LOOKS):
        try:
            os.readlink(f"/proc/{_number(pidfd)}/ns/mnt")
            return
        except PermissionError:
            poll.poll(_LOOK)


def _users(pidfd: int) -> int:
    """The user namespace of the sandbox; not the further one of a command that has another user than root
    where one id is mapped (process.become_emulated)."""
    pid = _number(pidfd)
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    with open(f"/proc/{pid}/uid_map") as f:
        lines = f.read().split("\n")
    if len(lines) == 2 and lines[0].split()[0] != "0":
        outer = fcntl.ioctl(fd, _NS_GET_PARENT)
        os.close(fd)
        return outer
    return fd


def _differing(pidfd: int) -> int:
    """The kinds of namespaces that the sandbox doesn't share with us."""
    pid = _number(pidfd)
    flags = 0
    for kind, flag in _KINDS.items():
        if os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"):
            flags |= flag
    return flags


def _become(
    conn: _socket.socket,
    link: _socket.socket | None,
    spec: SandboxSpec,
    settings: child.Settings,
    program: bytes,
    groups: list[int],
    users: int,
    mounts: int,
) -> NoReturn:
    status = child.SETUP_FAILED
    try:
        # Nothing of the sandbox's may be imported.
        sys.path, sys.meta_path = [], []
        if "pid" in spec.host:
            child.die_with_the_starter()
        for group in groups:
            os.write(group, b"0")
        os.umask(0o022)
        os.setsid()
        if spec.terminal:
            _own_terminal(conn, spec)
        process.go_to(spec.cwd, make=False)
        process.set_limits(spec)
        if users >= 0:
            process.join_user_namespace(users, spec)
        sc.close_range(3, flags=sc.CLOSE_RANGE_CLOEXEC)
        child.become(spec, settings, program, link, mounts)
        status = child.execute(conn, spec)
    except BaseException as e:
        child.report(conn, e)
    finally:
        os._exit(status)


def _own_terminal(conn: _socket.socket, spec: SandboxSpec) -> None:
    """A terminal of the sandbox's own devpts, so that ttyname(3) knows it; its master goes to the main
    process. The sandbox may have put anything in its place."""
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX:
        raise SandboxError("the container's /dev/pts/ptmx is no terminal", call="open", errno=errno.ENOTTY)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    try:
        os.fchown(slave, spec.uid, -1)
    except OSError:
        # One mapped id: it is everybody's.
        pass
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(slave, number)
    wire.send(conn, ("terminal",), (master,))
    os.close(master)
