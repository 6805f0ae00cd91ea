"""Control groups: which are ours to use, and groups that limit a container (cgroups(7)).

Each controller is taken where it is: in the unified hierarchy (version 2) if that has it and lets us use it,
else in one of its own (version 1). A group of ours is a directory ``pybuild/NAME`` below a *place* in each
hierarchy that it needs: in version 2 the scope that systemd made for us, else the highest group above us that
is ours to divide; in version 1 the hierarchy's root.
"""

from __future__ import annotations

import errno
import os

from buildkit_py.errors import SandboxError
from buildkit_py.linux import smallfiles
from buildkit_py.request import Limits
from buildkit_py.tuples import NamedTuple

_MOUNT = "/sys/fs/cgroup"
_FOLDER = "pybuild"
_OURS = "pybuild-self"
"""Where the processes of a group go that gets groups below it: it may not have both."""
_ROUNDS = 10
"""How often to look again for processes that were forked while a group was emptied."""
PERIOD = 100_000
"""Microseconds in which a processor's time is shared out."""


class Cgroups(NamedTuple):
    version: int
    """2 (unified), 1 (also hybrid), 0 (none mounted)."""
    path: str
    """The directory of the group that ours are made below; "" where there is none."""
    delegated: bool
    """Whether we may make groups below it."""
    controllers: tuple[str, ...]
    """Those that such groups could use."""


def find(mount: str = _MOUNT, membership: str = "/proc/self/cgroup") -> Cgroups:
    """What this process has."""
    groups = _memberships(membership)
    if os.path.exists(f"{mount}/cgroup.controllers"):
        top = divisible(Hierarchies(mount, groups.get("", "/"), {}))
        names = smallfiles.read(f"{top}/cgroup.controllers").split() if top else []
        return Cgroups(2, top, bool(top), tuple(sorted(names)))
    mounted = [name for name in groups if name and os.path.isdir(f"{mount}/{name}")]
    if not mounted:
        return Cgroups(0, "", False, ())
    usable = tuple(name for name in sorted(mounted) if os.access(f"{mount}/{name}{groups[name]}", os.W_OK))
    return Cgroups(1, mount, bool(usable), usable)


def _memberships(path: str) -> dict[str, str]:
    """Controller (or "" for the unified hierarchy) to our group's path."""
    result: dict[str, str] = {}
    for line in filter(None, smallfiles.read(path).split("\n")):
        _, names, group = line.split(":", 2)
        result.update((name.removeprefix("name="), group) for name in names.split(","))
    return result


# The hierarchies


class Hierarchies(NamedTuple):
    """Where control groups are mounted."""

    unified: str
    """The mount point of version 2, "" where there is none."""
    own: str
    """Our group in it, a path from its root."""
    single: dict[str, str]
    """Version 1: controller to mount point."""


def hierarchies(
    mountinfo: str = "/proc/self/mountinfo", membership: str = "/proc/self/cgroup"
) -> Hierarchies:
    unified = ""
    single: dict[str, str] = {}
    # Not splitlines(): a name may hold what that takes for the end of a line.
    for line in filter(None, smallfiles.read(mountinfo).split("\n")):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = before.split(" ")[4]
        if kind == "cgroup2":
            unified = unified or point
        elif kind == "cgroup":
            single.update((name.removeprefix("name="), point) for name in options.split(","))
    return Hierarchies(unified, _memberships(membership).get("", "/"), single)


# What is limited


class Setting(NamedTuple):
    option: str
    """As it is typed."""
    controller: str
    file: str
    value: str
    optional: bool = False
    """Left out in silence where the kernel has no such file."""


def settings(limits: Limits, version: int) -> list[Setting]:
    """What to write where for limits, in order; the same options for both versions."""
    found = [*_memory_settings(limits, version == 2), *_cpu_settings(limits, version == 2)]
    if limits.pids > 0:
        found.append(Setting("--pids-limit", "pids", "pids.max", str(limits.pids)))
    if limits.blkio_weight:
        if version == 2:
            weight = f"default {1 + (limits.blkio_weight - 10) * 9999 // 990}"
            found.append(Setting("--blkio-weight", "io", "io.weight", weight))
        else:
            found.append(Setting("--blkio-weight", "blkio", "blkio.weight", str(limits.blkio_weight)))
    return found


def _memory_settings(limits: Limits, unified: bool) -> list[Setting]:
    found = []
    if limits.memory:
        file = "memory.max" if unified else "memory.limit_in_bytes"
        found.append(Setting("--memory", "memory", file, str(limits.memory)))
        # Docker: as much swap as memory, where nothing is said.
        both = limits.memory_swap or 2 * limits.memory
        if unified:
            value = "max" if both < 0 else str(both - limits.memory)
            given = Setting("--memory-swap", "memory", "memory.swap.max", value)
        else:
            given = Setting("--memory-swap", "memory", "memory.memsw.limit_in_bytes", str(both))
        found.append(given._replace(optional=limits.memory_swap <= 0))
    if limits.memory_reservation:
        file = "memory.low" if unified else "memory.soft_limit_in_bytes"
        found.append(Setting("--memory-reservation", "memory", file, str(limits.memory_reservation)))
    return found


def _cpu_settings(limits: Limits, unified: bool) -> list[Setting]:
    found = []
    if limits.cpus:
        quota = max(int(limits.cpus * PERIOD), 1000)
        if unified:
            found.append(Setting("--cpus", "cpu", "cpu.max", f"{quota} {PERIOD}"))
        else:
            found.append(Setting("--cpus", "cpu", "cpu.cfs_period_us", str(PERIOD)))
            found.append(Setting("--cpus", "cpu", "cpu.cfs_quota_us", str(quota)))
    if limits.cpu_shares:
        if unified:
            weight = 1 + (max(limits.cpu_shares, 2) - 2) * 9999 // 262142
            found.append(Setting("--cpu-shares", "cpu", "cpu.weight", str(weight)))
        else:
            found.append(Setting("--cpu-shares", "cpu", "cpu.shares", str(limits.cpu_shares)))
    for option, name, value in (
        ("--cpuset-cpus", "cpuset.cpus", limits.cpuset_cpus),
        ("--cpuset-mems", "cpuset.mems", limits.cpuset_mems),
    ):
        if value:
            found.append(Setting(option, "cpuset", name, value))
    return found


# Groups of ours


class Group(NamedTuple):
    """A group of ours: its directories, one in each hierarchy that it needs. Plain text, so that it can be
    noted beside a container and found again."""

    unified: str = ""
    single: tuple[str, ...] = ()

    @property
    def directories(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.unified, *self.single)))

    def write(self, path: str) -> None:
        """Note it in a file."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, os.fsencode("\n".join((self.unified, *self.single))))
        finally:
            os.close(fd)

    @classmethod
    def read(cls, path: str) -> Group:
        """As it was noted; an empty one where it wasn't."""
        unified, *single = smallfiles.read(path).split("\n")
        return cls(unified, tuple(single))

    def remove(self) -> None:
        """Its processes must have ended. Raises nothing: what can't be removed is swept later."""
        for directory in self.directories:
            _remove(directory)

    def oom_kills(self) -> int:
        """How many of its processes were killed for lack of memory."""
        total = 0
        # An OCI runtime makes a group of its own in ours.
        for directory in (d for own in self.directories for d in (own, f"{own}/runtime")):
            for name in ("memory.events", "memory.oom_control"):
                for line in smallfiles.read(f"{directory}/{name}").splitlines():
                    if line.startswith("oom_kill "):
                        total += int(line.split()[1])
        return total

    def freeze(self, frozen: bool) -> bool:
        """Stop or continue all of its processes; False where the group can't."""
        if self.unified and os.path.exists(f"{self.unified}/cgroup.freeze"):
            _write(f"{self.unified}/cgroup.freeze", "1" if frozen else "0")
            return True
        for directory in self.single:
            if os.path.exists(f"{directory}/freezer.state"):
                _write(f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED")
                return True
        return False


def create(
    name: str,
    limits: Limits,
    *,
    needed: tuple[str, ...] = (),
    everywhere: bool = False,
    found: Hierarchies | None = None,
) -> tuple[Group, dict[str, str]]:
    """A group with these limits, and those that could not be set: option to reason.

    ``needed``: further controllers (``freezer``). ``everywhere``: in every hierarchy, whatever is limited.
    Raises SandboxError for a value that the kernel refuses.
    """
    found = found or hierarchies()
    wanted = {s.controller for s in settings(limits, 2)} | {*needed} - {"freezer"}
    place, enabled = _place(found, wanted, limits.cgroup_parent) if found.unified else ("", frozenset())
    missing: dict[str, str] = {}
    unified, directories = "", list[str]()
    try:
        if place and (enabled or everywhere or "freezer" in needed):
            unified = _make(place, name)
            _apply(unified, [s for s in settings(limits, 2) if s.controller in enabled], missing)
        rest = [
            s
            for s in settings(limits, 1)
            if s.controller not in enabled and _V2.get(s.controller) not in enabled
        ]
        extra = {c for c in needed if c not in enabled and not (c == "freezer" and unified)}
        extra |= {*found.single} if everywhere else set()
        for controller in sorted({s.controller for s in rest} | extra):
            mine = [s for s in rest if s.controller == controller]
            directory = _single(found, controller, name, limits.cgroup_parent)
            if not directory:
                reason = _reason(found, controller)
                missing.update((s.option, reason) for s in mine if not s.optional)
                continue
            directories.append(directory)
            _apply(directory, mine, missing)
    except BaseException:
        Group(unified, tuple(directories)).remove()
        raise
    return Group(unified, tuple(directories)), missing


def update(group: Group, limits: Limits) -> dict[str, str]:
    """Change the limits of a group that is in use; those that could not be: option to reason.

    Raises SandboxError for a value that the kernel refuses.
    """
    none = "the container has no control group for it"
    missing = {s.option: none for version in (1, 2) for s in settings(limits, version) if not s.optional}
    for version, directories in ((2, (group.unified,) if group.unified else ()), (1, group.single)):
        for setting in settings(limits, version):
            if version == 2 and directories:
                _offer(group.unified, setting.controller)
            place = next((d for d in directories if os.path.exists(f"{d}/{setting.file}")), "")
            if place:
                missing.pop(setting.option, None)
                _apply(place, [setting], missing)
    return missing


_V2 = {"blkio": "io"}
"""Controllers of version 1 that are called otherwise in version 2."""


def _reason(found: Hierarchies, controller: str) -> str:
    if controller in found.single:
        return "the control groups are root's"
    controllers = smallfiles.read(f"{found.unified}/cgroup.controllers").split() if found.unified else []
    if _V2.get(controller, controller) not in controllers:
        return "this machine has no such control groups"
    if divisible(found):
        return "the control group that is ours lacks the controller"
    return "no control group is delegated to this user"


def _apply(directory: str, todo: list[Setting], missing: dict[str, str]) -> None:
    for setting in todo:
        path = f"{directory}/{setting.file}"
        try:
            _write(path, setting.value)
        except FileNotFoundError:
            if not setting.optional:
                missing[setting.option] = f"this kernel has no {setting.file}"
        except OSError as e:
            if setting.optional:
                continue
            raise SandboxError(
                f"{setting.option}: the kernel refuses {setting.value} for {setting.file}: {e.strerror}",
                call="cgroup",
                errno=e.errno or errno.EIO,
            ) from e


def _place(found: Hierarchies, wanted: set[str], parent: str) -> tuple[str, frozenset[str]]:
    """The directory in the unified hierarchy whose groups we may make, and those of the controllers that
    they can have; "" where there is none."""
    top = divisible(found)
    if not top:
        return "", frozenset()
    folder = f"{top}/{parent.strip('/')}" if parent else f"{top}/{_FOLDER}"
    here = top
    enabled = _enable(here, wanted)
    for part in os.path.relpath(folder, top).split("/"):
        here = f"{here}/{part}"
        try:
            os.mkdir(here, 0o755)
        except FileExistsError:
            pass
        except OSError:
            return "", frozenset()
        enabled = _enable(here, set(enabled))
    return here, enabled


def divisible(found: Hierarchies) -> str:
    """The group of version 2 above us, ours included, that we may divide; "" where there is none.

    A scope that systemd made for us (buildkit_py.linux.systemd), else the highest that we may write to
    without a gap.
    """
    if not found.unified:
        return ""
    here = found.unified + found.own.rstrip("/")
    best = ""
    while all(
        os.access(f"{here}/{name}", os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control")
    ):
        best = here
        if here == found.unified or _is_scope(here):
            break
        here = os.path.dirname(here)
    return best


def scope_name(pid: int) -> str:
    """Of the scope that is made for a process."""
    return f"{_FOLDER}-{pid}.scope"


def _is_scope(directory: str) -> bool:
    name = os.path.basename(directory)
    return name.startswith(f"{_FOLDER}-") and name.endswith(".scope")


def lacking(found: Hierarchies, limits: Limits) -> bool:
    """Whether a limit wants a controller that the machine has in version 2, and no group there is ours."""
    if not found.unified or divisible(found):
        return False
    there = smallfiles.read(f"{found.unified}/cgroup.controllers").split()
    return any(setting.controller in there for setting in settings(limits, 2))


def _enable(directory: str, wanted: set[str]) -> frozenset[str]:
    """Give the groups below a directory those of the controllers that there are."""
    here = wanted & set(smallfiles.read(f"{directory}/cgroup.controllers").split())
    new = sorted(here - set(smallfiles.read(f"{directory}/cgroup.subtree_control").split()))
    # The hierarchy's root, which has no type, may have processes and groups. Not to wait for EBUSY: cpu and
    # pids are enabled all the same, and turn the group into a threaded one, with no groups for processes.
    if new and os.path.exists(f"{directory}/cgroup.type"):
        _evacuate(directory)
    for name in new:
        try:
            _write(f"{directory}/cgroup.subtree_control", f"+{name}")
        except OSError:
            here.discard(name)
    return frozenset(here)


def _offer(directory: str, controller: str) -> bool:
    """Have a group get a controller from those above it; whether it has it."""
    if controller in smallfiles.read(f"{directory}/cgroup.controllers").split():
        return True
    above = os.path.dirname(directory)
    if not os.access(f"{above}/cgroup.subtree_control", os.W_OK) or not _offer(above, controller):
        return False
    return controller in _enable(above, {controller})


def _evacuate(directory: str) -> None:
    """Move a group's own processes into one below it: ours, and those of the same scope. Those that can't
    be moved stay."""
    below = f"{directory}/{_OURS}"
    # More than once, for those that they have forked meanwhile.
    for _ in range(_ROUNDS):
        pids = smallfiles.read(f"{directory}/cgroup.procs").split()
        if not pids:
            return
        try:
            os.makedirs(below, exist_ok=True)
            for pid in pids:
                try:
                    _write(f"{below}/cgroup.procs", pid)
                except ProcessLookupError:
                    pass
        except OSError:
            return


def _single(found: Hierarchies, controller: str, name: str, parent: str) -> str:
    """A new group of version 1, "" where we may not make one."""
    mount = found.single.get(controller, "")
    if not mount:
        return ""
    folder = f"{mount}/{parent.strip('/') or _FOLDER}"
    try:
        here = mount
        for part in os.path.relpath(folder, mount).split("/"):
            here = f"{here}/{part}"
            try:
                os.mkdir(here, 0o755)
            except FileExistsError:
                pass
            _inherit_cpuset(here)
        return _make(folder, name)
    except OSError as e:
        if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return ""
        raise


def _make(folder: str, name: str) -> str:
    directory = f"{folder}/{name}"
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        # Of a container that was started before, or of a build whose process had our number.
        _remove(directory)
        os.makedirs(directory, 0o755, exist_ok=True)
    _inherit_cpuset(directory)
    return directory


def _inherit_cpuset(directory: str) -> None:
    """In version 1 a new cpuset is empty, and nothing can enter it."""
    above = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        path = f"{directory}/{name}"
        if os.path.exists(f"{directory}/cpuset.memory_migrate") and not smallfiles.read(path).strip():
            _write(path, smallfiles.read(f"{above}/{name}").strip())


def _remove(directory: str) -> None:
    try:
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
        os.rmdir(directory)
    except OSError:
        pass


def sweep(group: Group) -> None:
    """Remove what dead builds left beside a group of ours: groups named WORD-PID[-NUMBER]."""
    for directory in group.directories:
        for entry in os.scandir(os.path.dirname(directory)):
            words = entry.name.split("-")
            if len(words) > 1 and words[1].isdecimal() and not os.path.exists(f"/proc/{words[1]}"):
                _remove(entry.path)


def _write(path: str, text: str) -> None:
    """By one write(2), without making the file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
