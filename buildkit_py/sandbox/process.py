"""From the set-up's root to the command: ids, capabilities, filter, limits, exec.

Nothing here imports anything when called: the old root is gone by then.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import resource
import stat
import termios
from collections.abc import Callable

from buildkit_py.errors import SandboxError
from buildkit_py.linux import caps, init, trampoline
from buildkit_py.linux import syscalls as sc
from buildkit_py.linux.userns import write_file
from buildkit_py.oci import defaults
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
        os.fchown(0, _exchanged(spec.uid, spec.keep_id[0]) if spec.keep_id else spec.uid, -1)
    except OSError:
        pass
    fd = os.open("/dev/console", os.O_RDWR | os.O_NOCTTY)
    for number in (0, 1, 2):
        os.dup2(fd, number)
    if fd > 2:
        os.close(fd)


def set_oom_score(spec: SandboxSpec) -> None:
    """Before the old /proc goes."""
    if spec.oom_score_adj is None:
        return
    try:
        write_file("/proc/self/oom_score_adj", str(spec.oom_score_adj))
    except SandboxError as e:
        e.message = f"--oom-score-adj={spec.oom_score_adj} cannot be set: {os.strerror(e.errno)}"
        e.hint = "only real root can go below the value that its shell has"
        raise


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


def enter_cgroups(spec: SandboxSpec) -> None:
    """While the host's control groups are in sight."""
    for directory in spec.cgroups:
        write_file(f"{directory}/cgroup.procs", "0")
    if "cgroup" not in spec.host:
        sc.unshare(sc.CLONE_NEWCGROUP)


def join(spec: SandboxSpec) -> None:
    """Enter the namespaces of other sandboxes, all but that of processes, in which we were made."""
    for kind, path in spec.shared:
        if kind in _JOINED:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sc.setns(fd, _JOINED[kind])
            finally:
                os.close(fd)


_JOINED = {"ipc": sc.CLONE_NEWIPC, "uts": sc.CLONE_NEWUTS}


def enter_user_namespaces(spec: SandboxSpec) -> None:
    """``--userns=keep-id``: one more user namespace, in which our ids 0 are the user's own numbers, and
    those numbers 0. A limit of processes: two. The inner one is charged to the outer one's root, which has
    no other processes, and was made under the limit, so that all of its users together are held to it."""
    if spec.processes:
        _unshare_ids(_identity_maps())
        _limit_processes(spec)
    if spec.keep_id is not None:
        own = zip(("uid", "gid"), spec.keep_id, strict=True)
        _unshare_ids([(kind, id_map(extents(kind), number)) for kind, number in own])
    elif spec.processes:
        _unshare_ids(_identity_maps())


def made_user_namespace(spec: SandboxSpec, *, emulated: bool) -> int:
    """A descriptor of what enter_user_namespaces and, where ``emulated``, take_emulated_user would enter,
    made by a child that ends. Raises SandboxError."""
    reading, writing = os.pipe()
    waiting, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(held)
            enter_user_namespaces(spec)
            if emulated:
                take_emulated_user(spec, os.open("/proc/self", os.O_PATH | os.O_CLOEXEC))
            os.write(writing, b"x")
            os.read(waiting, 1)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    os.close(waiting)
    try:
        if os.read(reading, 1):
            return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reading)
        os.close(held)
        os.waitpid(pid, 0)
    raise SandboxError("the kernel refused a user namespace", call="unshare", errno=errno.EPERM)


def join_user_namespace(users: int, spec: SandboxSpec) -> None:
    """For one more process of a sandbox that entered user namespaces of its own: the inner one, a descriptor,
    where it is counted with all others."""
    _limit_processes(spec)
    sc.setns(users, sc.CLONE_NEWUSER)


def _limit_processes(spec: SandboxSpec) -> None:
    if spec.processes:
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        limit = spec.processes if hard < 0 else min(spec.processes, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))


def _unshare_ids(maps: list[tuple[str, str]]) -> None:
    """Enter a new user namespace with these maps: (uid or gid, text). The kernel takes large maps from a
    process outside alone: a child that stays there."""
    reading, writing = os.pipe()
    target = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(writing)
            if os.read(reading, 1):
                for name, text in maps:
                    write_file(f"/proc/{target}/{name}_map", text)
                status = 0
        finally:
            os._exit(status)
    os.close(reading)
    try:
        sc.unshare(sc.CLONE_NEWUSER)
        os.write(writing, b"x")
    finally:
        os.close(writing)
        status = os.waitpid(pid, 0)[1]
    if status:
        raise SandboxError("the kernel refused a map of ids", call="uid_map", errno=errno.EPERM)


def _identity_maps() -> list[tuple[str, str]]:
    return [(kind, id_map(extents(kind), 0)) for kind in ("uid", "gid")]


def extents(kind: str) -> list[tuple[int, int]]:
    """(first, count) of each run of ids that we have."""
    with open(f"/proc/self/{kind}_map") as f:
        lines = [list(map(int, line.split())) for line in f]
    return [(first, count) for first, _, count in lines]


def id_map(extents: list[tuple[int, int]], own: int) -> str:
    """The text of a uid_map or gid_map: of id_pieces()."""
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in id_pieces(extents, own))


def id_pieces(extents: list[tuple[int, int]], own: int) -> list[tuple[int, int, int]]:
    """(inside, outside, count) of a map over our ids that exchanges 0 and ``own``; 0: every id as it is.

    A line may not reach over the end of one of our own extents. Where ``own`` is beyond them, nobody is 0.
    """
    pieces: list[tuple[int, int]] = []
    for first, count in extents:
        for cut in sorted({0, 1, own, own + 1}):
            if first < cut < first + count:
                pieces.append((first, cut - first))
                first, count = cut, first + count - cut
        pieces.append((first, count))
    exchanged = {0: own, own: 0}
    return [(exchanged.get(first, first), first, count) for first, count in pieces]


def _exchanged(number: int, own: int) -> int:
    """What an id inside is outside."""
    return {own: 0, 0: own}.get(number, number)


def become(spec: SandboxSpec, program: bytes) -> None:
    """Take on the user, drop capabilities, install the filter (``program``, empty for none)."""
    _, permitted, _ = sc.capget()
    keep = spec.capabilities & permitted
    _set_ids(spec)
    _drop_bounding(spec)
    if spec.uid:
        sc.prctl(sc.PR_SET_KEEPCAPS, 1)
        _set_user(spec)
        # Kept as permitted, cleared as effective: the filter wants CAP_SYS_ADMIN once more.
        sc.capset(caps.SYS_ADMIN & permitted, permitted, 0)
        keep = 0
    if program:
        sc.seccomp_filter(program)
    sc.capset(keep, keep, 0)
    _no_more_privileges(spec)


def leave_keys(spec: SandboxSpec) -> None:
    """Leave the caller's session keyring, with whatever keys, where the filter lets a sandbox ask for it: a
    ring counts among the few that an ordinary user may have. Raises SandboxError."""
    if spec.seccomp == "default":
        return
    try:
        sc.join_session_keyring()
    except SandboxError as e:
        # A kernel without keys, or a sandbox around us that hides them.
        if e.errno not in (errno.ENOSYS, errno.EPERM):
            raise


def hide() -> None:
    """Let no process of a container trace this one, or read its memory, environment and descriptors, until
    it has become a program of the image. From here on it can't write files of its own in /proc."""
    sc.prctl(sc.PR_SET_DUMPABLE, 0)


def take_emulated_user(spec: SandboxSpec, own: int) -> None:
    """Where one id is mapped, another user than root is had by one more user namespace, which maps that user
    to the one id there is. ``own``: our directory of /proc."""
    sc.unshare(sc.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{spec.uid} 0 1"), ("gid_map", f"{spec.gid} 0 1")):
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=own)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def become_emulated(spec: SandboxSpec, program: bytes, link: _socket.socket | None, mounts: int) -> None:
    """The same where one id is mapped, after take_emulated_user."""
    _, permitted, _ = sc.capget()
    keep = 0 if spec.uid else spec.capabilities & permitted
    _drop_bounding(spec)
    listener = sc.seccomp_filter(program, sc.SECCOMP_FILTER_FLAG_NEW_LISTENER)
    if link is not None:
        attendant.ask(
            link, ("owners", spec.tree or spec.upper, spec.layers, spec.uid, spec.gid), listener, mounts
        )
    os.close(listener)
    # A tool, whose calls are answered by who must look at it, is not hidden; nobody without this may look.
    sc.capset(keep, keep | (permitted & caps.SYS_PTRACE if spec.tool else 0), 0)
    _no_more_privileges(spec)


def _no_more_privileges(spec: SandboxSpec) -> None:
    if spec.no_new_privileges:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)


def _drop_bounding(spec: SandboxSpec) -> None:
    if spec.capabilities != caps.ALL:
        caps.drop_bounding(spec.capabilities)
    sc.prctl(sc.PR_CAP_AMBIENT, sc.PR_CAP_AMBIENT_CLEAR_ALL)


def _set_ids(spec: SandboxSpec) -> None:
    try:
        os.setgroups(spec.groups)
        os.setresgid(spec.gid, spec.gid, spec.gid)
    except OSError as e:
        raise _not_ours(spec, e) from e
    if spec.uid == 0:
        _set_user(spec)


def _set_user(spec: SandboxSpec) -> None:
    try:
        os.setresuid(spec.uid, spec.uid, spec.uid)
    except OSError as e:
        raise _not_ours(spec, e) from e


def _not_ours(spec: SandboxSpec, e: OSError) -> SandboxError:
    return SandboxError(
        f"user {spec.uid}, group {spec.gid} cannot be taken on: {e.strerror}",
        call="setresuid",
        errno=e.errno or 0,
        hint="the id lies outside the user's subordinate ids: see `pybuild doctor`",
    )


def go_to(path: str, *, make: bool = True) -> None:
    """Change to the working directory, made where it is missing. A link of /proc is refused: descriptors
    of ours are open still, and one of them would lead out (CVE-2024-21626 of runc)."""
    try:
        try:
            fd = _open_folder(path)
        except SandboxError as e:
            if e.errno != errno.ENOENT or not make:
                raise
            fd = _make_folders(path)
    except (SandboxError, OSError) as e:
        number = e.errno or errno.EIO
        raise SandboxError(
            f"the working directory {path} cannot be entered: {os.strerror(number)}",
            call="chdir",
            errno=number,
        ) from e
    os.fchdir(fd)
    os.close(fd)


def _open_folder(path: str) -> int:
    return sc.openat2(sc.AT_FDCWD, path, os.O_PATH | os.O_DIRECTORY, sc.RESOLVE_NO_MAGICLINKS)


def _make_folders(path: str) -> int:
    """Make a directory and those above it, each in the one before, as it was opened; the last one opened."""
    above, done = _open_folder("/"), ""
    for name in filter(None, path.split("/")):
        done += f"/{name}"
        try:
            here = _open_folder(done)
        except SandboxError as e:
            if e.errno != errno.ENOENT:
                os.close(above)
                raise
            os.mkdir(name, 0o755, dir_fd=above)
            here = _open_folder(done)
        os.close(above)
        above = here
    return above


def execute(spec: SandboxSpec, ready: Callable[[], None]) -> tuple[int, str]:
    """Replace this process by the command, after a call of ``ready``. Returns only where that failed: the
    exit status, and the reason, which stands on stderr."""
    env = dict(item.split("=", 1) for item in spec.env if "=" in item)
    name = spec.args[0] if spec.args else ""
    path, reason, status = _look_up(name, env.get("PATH", defaults.PATH))
    if path:
        try:
            ready()
            trampoline.execute(path, spec.args, env, failures(name), init.CODE if spec.init else b"")
            if spec.init:
                reason = "--init needs memory that may be executed (sysctl vm.memfd_noexec=0)"
                os.write(2, f"{reason}\n".encode())
                return 125, reason
            _refuse_magic_links(path)
            os.execve(path, spec.args, env)
        except (OSError, SandboxError) as e:
            number = e.errno or 0
            reason, status = next((words, code) for n, words, code in _REFUSALS if n in (number, 0))
    line = _line(name, reason)
    os.write(2, line)
    return status, line.decode("utf-8", "surrogateescape").strip()


def failures(name: str) -> list[trampoline.Failure]:
    """What the trampoline says where a command can't be executed."""
    return [trampoline.Failure(number, _line(name, words), status) for number, words, status in _REFUSALS]


def _look_up(name: str, path: str) -> tuple[str, str, int]:
    """(path, "", 0) of the program, or ("", reason, exit status) where there is none to execute."""
    refused = ""
    for candidate in [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in path.split(":")]:
        try:
            folder = stat.S_ISDIR(os.stat(candidate).st_mode)
        except PermissionError:
            refused = refused or "permission denied"
            continue
        except OSError:
            continue
        if folder or not os.access(candidate, os.X_OK):
            refused = refused or ("is a directory" if folder and "/" in name else "permission denied")
            continue
        return (candidate, "", 0) if name else ("", "no command", NOT_FOUND)
    if refused and "/" in name:
        return "", refused, NOT_EXECUTABLE
    return "", "no such file or directory" if "/" in name else "executable file not found in $PATH", NOT_FOUND


def _refuse_magic_links(path: str) -> None:
    """Without a trampoline (buildkit_py.linux.trampoline): refuse what leads to our own executable, through
    a link or a script's first line. Something could still change between this look and the execve."""
    for _ in range(5):
        fd = sc.openat2(sc.AT_FDCWD, path, os.O_RDONLY, sc.RESOLVE_NO_MAGICLINKS)
        try:
            first = os.read(fd, 256).split(b"\n")[0]
        finally:
            os.close(fd)
        if not first.startswith(b"#!") or not first[2:].split():
            return
        path = os.fsdecode(first[2:].split()[0])


_REFUSALS = (
    (errno.ENOENT, "its interpreter or loader is missing in the image", NOT_FOUND),
    (errno.ENOEXEC, "exec format error", NOT_EXECUTABLE),
    (errno.EACCES, "permission denied", NOT_EXECUTABLE),
    (errno.E2BIG, "argument list too long", NOT_EXECUTABLE),
    (0, "cannot be executed", NOT_EXECUTABLE),
)
"""(errno of execve, words, exit status); the last one for all others."""


def _line(name: str, reason: str) -> bytes:
    return f'exec: "{name}": {reason}\n'.encode("utf-8", "surrogateescape")
