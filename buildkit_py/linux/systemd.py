"""A control group from the user's systemd, for a process of the user's.

A login shell's group is root's, and so not ours to divide. The user's manager starts a transient scope that
is (https://systemd.io/CONTROL_GROUP_DELEGATION/), and has process 1 move the process into it, which a user
may not do from a group of root's. It is asked by ``busctl``, which comes with systemd. The scope ends with
its last process.
"""

from __future__ import annotations

import os

from buildkit_py.linux import cgroups, smallfiles

_PATIENCE = 5.0
"""Seconds for the answer, and for the move after it."""
_STEP = 0.002
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


def bus(first: str = "/proc/1/comm", folders: str = "/run/user") -> str:
    """The socket of the user's message bus, "" where there is none, or no systemd beside it.

    ``first``: the name of process 1. In the process namespace of a container, numbers mean other processes
    to the systemd outside. ``folders``: where the user's runtime directory is, which su and sudo don't tell.
    """
    folder = os.environ.get("XDG_RUNTIME_DIR") or f"{folders}/{_user()}"
    path = f"{folder}/bus"
    return path if os.path.exists(path) and smallfiles.read(first).strip() == "systemd" else ""


def _user() -> int:
    """Our number outside of our user namespace."""
    own = os.getuid()
    for line in smallfiles.read("/proc/self/uid_map").splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= own < inside + count:
            return outside + own - inside
    return own


def offered(uid: int, mount: str = "/sys/fs/cgroup") -> tuple[str, ...]:
    """The controllers of version 2 that a scope of this user's can have; none where it can't be asked for."""
    if not bus():
        return ()
    manager = f"{mount}/user.slice/user-{uid}.slice/user@{uid}.service"
    return tuple(sorted(smallfiles.read(f"{manager}/cgroup.controllers").split()))


def scope(socket: str, pid: int, *, patience: float = _PATIENCE) -> str:
    """Have a process moved into a scope of its own, whose group is ours to divide; why not, "" where it was.

    ``socket``: of bus(). ``patience``: seconds.
    """
    import subprocess
    import time

    name = cgroups.scope_name(pid)
    command = request(socket, pid, name, patience)
    deadline = time.monotonic() + patience
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    except FileNotFoundError:
        return "busctl, which asks the user's systemd, is not installed"
    except subprocess.TimeoutExpired:
        return "the user's systemd doesn't answer"
    except OSError as e:
        return f"busctl, which asks the user's systemd: {e.strerror}"
    if done.returncode:
        words = done.stderr.strip().rpartition("\n")[2].removeprefix("Call failed: ")
        return f"the user's systemd refuses: {words or f'busctl ended with {done.returncode}'}"
    # The answer is a job's name. Its end is told to those alone who stay on the bus.
    while f"/{name}" not in smallfiles.read(f"/proc/{pid}/cgroup"):
        if time.monotonic() > deadline:
            return "the user's systemd moved nothing"
        time.sleep(_STEP)
    return ""


def request(socket: str, pid: int, name: str, patience: float) -> list[str]:
    """The command that asks for the scope (org.freedesktop.systemd1(5), StartTransientUnit)."""
    properties = (
        ("Description", "s", "sandboxes of pybuild"),
        ("PIDs", "au", "1", str(pid)),
        ("Delegate", "b", "true"),
        # The manager's default is less than a login has. What the user's slice may have still counts.
        ("TasksMax", "t", str(2**64 - 1)),
        # The starter, first in its process namespace, does not hear SIGTERM; the container may. As `stop`.
        ("TimeoutStopUSec", "t", "10000000"),
        ("CollectMode", "s", "inactive-or-failed"),
    )
    call = ("call", *_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", str(len(properties)))
    options = (f"--address=unix:path={socket}", f"--timeout={max(1, round(patience))}")
    return ["busctl", *options, *call, *(word for one in properties for word in one), "0"]
