"""Which control groups there are, and what of them is ours to use (cgroups(7))."""

from __future__ import annotations

import os

from buildkit_py.tuples import NamedTuple

_MOUNT = "/sys/fs/cgroup"


class Cgroups(NamedTuple):
    version: int
    """2 (unified), 1 (also hybrid), 0 (none mounted)."""
    path: str
    """The directory of our own group; "" where there is none."""
    delegated: bool
    """Whether we may make groups below it."""
    controllers: tuple[str, ...]
    """Those that such groups could use."""


def find(mount: str = _MOUNT, membership: str = "/proc/self/cgroup") -> Cgroups:
    """What this process has."""
    groups = _memberships(membership)
    if os.path.exists(f"{mount}/cgroup.controllers"):
        path = mount + groups.get("", "/").rstrip("/")
        names = tuple(_read(f"{path}/cgroup.controllers").split())
        delegated = os.access(path, os.W_OK) and os.access(f"{path}/cgroup.procs", os.W_OK)
        return Cgroups(2, path, delegated, names if delegated else ())
    mounted = [name for name in groups if name and os.path.isdir(f"{mount}/{name}")]
    if not mounted:
        return Cgroups(0, "", False, ())
    usable = tuple(name for name in sorted(mounted) if os.access(f"{mount}/{name}{groups[name]}", os.W_OK))
    return Cgroups(1, mount, bool(usable), usable)


def _memberships(path: str) -> dict[str, str]:
    """Controller (or "" for the unified hierarchy) to our group's path."""
    result: dict[str, str] = {}
    for line in _read(path).splitlines():
        _, names, group = line.split(":", 2)
        result.update((name.removeprefix("name="), group) for name in names.split(","))
    return result


def _read(path: str) -> str:
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""
