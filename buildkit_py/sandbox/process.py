"""From the set-up's root to the command: ids, capabilities, filter, limits, exec.

Nothing here imports anything when called: the old root is gone by then.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import resource
import termios

from buildkit_py.errors import SandboxError
from buildkit_py.linux import caps
from buildkit_py.linux import syscalls as sc
from buildkit_py.linux.userns import write_file
from buildkit_py.sandbox import attendant
from buildkit_py.sandbox.spec import SandboxSpec

NOT_FOUND = 127
NOT_EXECUTABLE = 126


def take_streams(stdin: int, stdout: int, stderr: int) -> None:
    """Make three descriptors 0, 1 and 2. They all are above 2."""
    for fd, number in ((stdin, 0), (stdout, 1), (stderr, 2)):
        os.dup2(fd, number)


def take_terminal(spec: SandboxSpec) -> None:
    if spec.new_session or spec.terminal:
        os.setsid()
    if spec.terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def reopen_terminal(spec: SandboxSpec) -> None:
    """Open the terminal by its name in the sandbox, so that ttyname(3) knows it; its user owns it."""
    if not spec.terminal:
        return
    try:
        os.fchown(0, spec.uid, -1)
    except OSError:
        pass
    fd = os.open("/dev/console", os.O_RDWR | os.O_NOCTTY)
    for number in (0, 1, 2):
        os.dup2(fd, number)
    if fd > 2:
        os.close(fd)


def set_limits(spec: SandboxSpec) -> None:
    for name, soft, hard in spec.ulimits:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            raise SandboxError(f"there is no limit named {name!r}", call="setrlimit", errno=errno.EINVAL)
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as e:
            raise SandboxError(
                f"the limit {name}={soft}:{hard} cannot be set: {e}",
                call="setrlimit",
                errno=getattr(e, "errno", None) or errno.EPERM,
                hint="an ordinary user cannot go above the limits of the shell (`ulimit -Ha`)",
            ) from e


def become(spec: SandboxSpec, program: bytes) -> None:
    """Take on the user, drop capabilities, install the filter (``program``, empty for none)."""
    _, permitted, _ = sc.capget()
    keep = permitted if spec.privileged else caps.DEFAULT & permitted
    _set_ids(spec)
    _drop_bounding(spec)
    if spec.uid:
        sc.prctl(sc.PR_SET_KEEPCAPS, 1)
        os.setresuid(spec.uid, spec.uid, spec.uid)
        # Kept as permitted, cleared as effective: the filter wants CAP_SYS_ADMIN once more.
        sc.capset(caps.SYS_ADMIN & permitted, permitted, 0)
        keep = 0
    if program:
        sc.seccomp_filter(program)
    sc.capset(keep, keep, 0)


def become_emulated(spec: SandboxSpec, program: bytes, link: _socket.socket | None) -> None:
    """The same where one id is mapped. Another user than root is had by one more user namespace, which
    maps that user to the one id there is."""
    if spec.uid or spec.gid:
        sc.unshare(sc.CLONE_NEWUSER)
        write_file("/proc/self/setgroups", "deny")
        write_file("/proc/self/uid_map", f"{spec.uid} 0 1")
        write_file("/proc/self/gid_map", f"{spec.gid} 0 1")
    _, permitted, _ = sc.capget()
    keep = 0 if spec.uid else permitted if spec.privileged else caps.DEFAULT & permitted
    _drop_bounding(spec)
    listener = sc.seccomp_filter(program, sc.SECCOMP_FILTER_FLAG_NEW_LISTENER)
    if link is not None:
        attendant.ask(link, ("owners", spec.tree or spec.upper, spec.layers, spec.uid, spec.gid), listener)
    os.close(listener)
    sc.capset(keep, keep, 0)


def _drop_bounding(spec: SandboxSpec) -> None:
    if not spec.privileged:
        caps.drop_bounding(caps.DEFAULT)
    sc.prctl(sc.PR_CAP_AMBIENT, sc.PR_CAP_AMBIENT_CLEAR_ALL)


def _set_ids(spec: SandboxSpec) -> None:
    try:
        os.setgroups(spec.groups)
        os.setresgid(spec.gid, spec.gid, spec.gid)
        if spec.uid == 0:
            os.setresuid(0, 0, 0)
    except OSError as e:
        raise SandboxError(
            f"user {spec.uid}, group {spec.gid} cannot be taken on: {e.strerror}",
            call="setresgid",
            errno=e.errno or 0,
            hint="the id lies outside the user's subordinate ids: see `pybuild doctor`",
        ) from e


def go_to(path: str) -> None:
    """Change to the working directory, made where it is missing."""
    try:
        os.chdir(path)
        return
    except FileNotFoundError:
        pass
    os.makedirs(path, 0o755, exist_ok=True)
    os.chdir(path)


def execute(spec: SandboxSpec) -> int:
    """Replace this process by the command. Returns only where that failed: the exit status, after a
    line on stderr."""
    env = dict(item.split("=", 1) for item in spec.env if "=" in item)
    name = spec.args[0] if spec.args else ""
    if "/" in name:
        candidates = [name]
    else:
        path = env.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        candidates = [f"{folder or '.'}/{name}" for folder in path.split(":")] if name else []
    refused = 0
    for candidate in candidates:
        try:
            os.execve(candidate, spec.args, env)
        except OSError as e:
            number = e.errno or 0
            if number in (errno.ENOENT, errno.ENOTDIR) and not (
                number == errno.ENOENT and os.path.exists(candidate)
            ):
                continue
            if number == errno.EACCES and "/" not in name:
                refused = refused or number
                continue
            refused = number
            break
    return _say(name, refused)


def _say(name: str, number: int) -> int:
    if number == 0:
        reason = "no such file or directory" if "/" in name else "executable file not found in $PATH"
        status = NOT_FOUND
    elif number == errno.ENOENT:
        reason, status = "its interpreter or loader is missing in the image", NOT_FOUND
    else:
        reason, status = os.strerror(number).lower(), NOT_EXECUTABLE
    os.write(2, f'exec: "{name}": {reason}\n'.encode("utf-8", "surrogateescape"))
    return status
