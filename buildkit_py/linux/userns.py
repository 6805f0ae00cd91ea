"""Becoming root where we aren't: the process enters a user namespace once, and stays.

As real root only a mount namespace is made. An ordinary user gets a user namespace that maps the user
to 0 and the user's subordinate ids (subuid(5)) to 1 and up, written by the set-uid programs newuidmap
and newgidmap; without those, one that maps the user alone. See user_namespaces(7).
"""

from __future__ import annotations

import os

from buildkit_py.errors import SandboxError
from buildkit_py.linux import forked, hints
from buildkit_py.linux import syscalls as sc
from buildkit_py.linux.identity import Identity, IdRange
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Literal

_WHOLE = 1 << 32
_MAX_EXTENTS = 340
"""Lines of one map that the kernel takes."""


def enter() -> Identity:
    """Enter the namespaces in which everything is unpacked, mounted and run; say who we are there.

    To be called once, before any thread exists. Raises SandboxError where the machine forbids it.
    """
    return begin().finish()


class Entering:
    """A namespace that is entered but whose maps may still be on the way: newuidmap and newgidmap take as
    long as importing what needs the maps does. Until ``finish``, only ``mode`` is known, and that may
    still turn out to be ``single``."""

    def __init__(self, plan: Identity, mappers: tuple[int, ...] = ()) -> None:
        self._plan = plan
        self._mappers = mappers

    @property
    def plan(self) -> Identity:
        return self._plan

    def finish(self) -> Identity:
        """Wait for the maps; say who we are. Raises SandboxError."""
        if self._mappers:
            mappers, self._mappers = self._mappers, ()
            self._plan = _mapped(self._plan, mappers)
        return self._plan


def begin(join: int = -1) -> Entering:
    """The first half of enter(): everything but waiting for the maps.

    ``join``: a descriptor of a user namespace to enter, one that this user made, in the place of a new one.
    """
    if join >= 0:
        if os.fstat(join).st_ino != os.stat("/proc/self/ns/user").st_ino:
            sc.setns(join, sc.CLONE_NEWUSER)
        sc.unshare(sc.CLONE_NEWNS)
        _make_private()
        return Entering(present())
    as_root = os.geteuid() == 0 and _can_mount()
    try:
        entering = Entering(present()) if as_root else _enter_user_namespace()
        _make_private()
    except SandboxError as e:
        blame = None if as_root else blocking_setting()
        e.hint = blame.mend if blame else e.hint
        raise
    return entering


class Setting(NamedTuple):
    """A sysctl that forbids user namespaces: its name, its present value, the command that mends it."""

    name: str
    value: str
    mend: str


_BLOCKING = (
    ("user.max_user_namespaces", "0", "28633"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)
"""(name, the value that forbids, one that allows): the kernel's, older Debians', Ubuntu's from 23.10 on."""


def blocking_setting(sysctls: str = "/proc/sys") -> Setting | None:
    """The first setting that keeps an ordinary user from a user namespace, if there is one."""
    for name, bad, good in _BLOCKING:
        try:
            with open(f"{sysctls}/{name.replace('.', '/')}") as f:
                value = f.read().strip()
        except OSError:
            continue
        if value == bad:
            return Setting(name, value, f"sudo sysctl -w {name}={good}")
    return None


def would_be() -> Literal["root", "ids", "single"]:
    """The mode that enter() would come to, without entering."""
    if os.geteuid() == 0 and _has_admin():
        return present().mode
    plan = plan_maps(os.geteuid(), os.getegid())
    return plan.mode if plan.mode == "single" or not missing_tools() else "single"


def _has_admin() -> bool:
    from buildkit_py.linux import caps

    return bool(sc.capget()[0] & caps.SYS_ADMIN)


def _can_mount() -> bool:
    """Root in a container may lack CAP_SYS_ADMIN: it is then an ordinary user as far as we go."""
    try:
        sc.unshare(sc.CLONE_NEWNS)
    except SandboxError:
        return False
    return True


def _make_private() -> None:
    """Nothing mounted from here on is seen outside. Slave, not private: what the host unmounts
    meanwhile (a USB disk) isn't kept busy by a long-running container."""
    sc.mount("", "/", "", sc.MS_REC | sc.MS_SLAVE)


def present() -> Identity:
    """Root's identity by the map that is in force: real root, or root of an outer user namespace."""
    uids, gids = _read_map("/proc/self/uid_map"), _read_map("/proc/self/gid_map")
    if uids == gids == (IdRange(0, 0, _WHOLE - 1),):
        return Identity("root", uids, gids)
    many = sum(r.count for r in uids) > 1 and sum(r.count for r in gids) > 1
    return Identity("ids" if many else "single", uids, gids)


def _read_map(path: str) -> tuple[IdRange, ...]:
    with open(path) as f:
        return tuple(IdRange(*map(int, line.split())) for line in f)


def missing_tools() -> tuple[str, ...]:
    """Those of newuidmap and newgidmap that PATH lacks."""
    return tuple(name for name in ("newuidmap", "newgidmap") if not find(name))


def find(name: str) -> str:
    """The path of a program, also where PATH lacks the system's folders; "" where there is none."""
    for directory in os.environ.get("PATH", "/usr/bin:/bin").split(":") + ["/usr/bin", "/usr/sbin"]:
        path = os.path.join(directory, name)
        if directory and os.access(path, os.X_OK):
            return path
    return ""


def subordinate_ids(path: str, names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """(start, count) of each range that a subuid(5) file gives to one of the names (login or number).

    A line that makes no sense is passed over, as newuidmap does.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            lines = f.read().splitlines()
    except OSError:
        return ()
    ranges = []
    for line in lines:
        fields = line.split(":")
        if len(fields) != 3 or fields[0] not in names:
            continue
        try:
            start, count = int(fields[1]), int(fields[2])
        except ValueError:
            continue
        if start > 0 and count > 0 and start + count < _WHOLE:
            ranges.append((start, count))
    return tuple(ranges)


def login_name(uid: int) -> str:
    """The user's name, "" where the system knows none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def make_map(own: int, ranges: tuple[tuple[int, int], ...]) -> tuple[IdRange, ...]:
    """The user's own id as 0, the subordinate ranges one after the other from 1 on."""
    result = [IdRange(0, own, 1)]
    inside = 1
    for start, count in ranges[: _MAX_EXTENTS - 1]:
        if start <= own < start + count:
            continue
        result.append(IdRange(inside, start, count))
        inside += count
    return tuple(result)


def plan_maps(uid: int, gid: int) -> Identity:
    """The maps that the subordinate ids allow, newuidmap's presence aside."""
    names = tuple(filter(None, (login_name(uid), str(uid))))
    uids = make_map(uid, subordinate_ids("/etc/subuid", names))
    gids = make_map(gid, subordinate_ids("/etc/subgid", names))
    if len(uids) == 1 or len(gids) == 1:
        return Identity("single", (IdRange(0, uid, 1),), (IdRange(0, gid, 1),))
    return Identity("ids", uids, gids)


def _enter_user_namespace() -> Entering:
    uid, gid = os.geteuid(), os.getegid()
    plan = plan_maps(uid, gid)
    if plan.mode == "ids" and not missing_tools():
        return Entering(plan, _unshare_with_ids(plan))
    sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNS)
    return Entering(_map_single(uid, gid))


def _map_single(uid: int, gid: int) -> Identity:
    _write_single_maps(uid, gid)
    return Identity("single", (IdRange(0, uid, 1),), (IdRange(0, gid, 1),))


def _write_single_maps(uid: int, gid: int) -> None:
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"0 {uid} 1"),
        ("/proc/self/gid_map", f"0 {gid} 1"),
    ):
        write_file(path, text)


def write_file(path: str, text: str) -> None:
    """Write a kernel file by one write(2): the answer is the kernel's, not a buffer's."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as e:
        raise SandboxError(
            f"write {path}: {e.strerror}", call=path, errno=e.errno or 0, hint=hints.hint(path, e.errno or 0)
        ) from e


def _unshare_with_ids(plan: Identity) -> tuple[int, ...]:
    """Two children, made before the namespace, run newuidmap and newgidmap on us when it stands."""
    target = os.getpid()
    ready_r, ready_w = os.pipe()
    children = tuple(
        _fork_mapper(name, target, ranges, ready_r, ready_w)
        for name, ranges in (("newuidmap", plan.uids), ("newgidmap", plan.gids))
    )
    os.close(ready_r)
    try:
        sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNS)
    except SandboxError:
        os.close(ready_w)
        for pid in children:
            os.waitpid(pid, 0)
        raise
    os.write(ready_w, b"ok")
    os.close(ready_w)
    return children


def _mapped(plan: Identity, mappers: tuple[int, ...]) -> Identity:
    """Who we are once the mappers have ended. Both may refuse (not set-uid, a file system mounted nosuid,
    the files changed meanwhile): the namespace has no map yet then, and gets the user alone."""
    refused = [pid for pid in mappers if os.waitpid(pid, 0)[1] != 0]
    if len(refused) == 1:
        raise SandboxError(
            "newuidmap and newgidmap disagree: one of them refused the ids of /etc/subuid and /etc/subgid",
            call="newuidmap",
            hint="give the user the same number of ids in both files, as `sudo usermod --add-subuids "
            "100000-165535 --add-subgids 100000-165535 USER` does",
        )
    return _map_single(plan.uids[0].outside, plan.gids[0].outside) if refused else plan


def _fork_mapper(name: str, target: int, ranges: tuple[IdRange, ...], ready_r: int, ready_w: int) -> int:
    program = find(name)
    arguments = [name, str(target), *(str(n) for r in ranges for n in r)]
    pid = forked.fork()
    if pid:
        return pid
    try:
        os.close(ready_w)
        if os.read(ready_r, 1):
            os.dup2(os.open(os.devnull, os.O_RDWR), 2)
            os.execve(program, arguments, {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
    finally:
        os._exit(1)
