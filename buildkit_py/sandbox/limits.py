"""What a sandbox may use of the machine: by control groups, and where there are none, as far as it goes.

Without a control group for it, a limit of processes is had by RLIMIT_NPROC, which the kernel counts for each
user namespace since Linux 5.14; not for real root, which the kernel exempts. Memory and processors can't be
limited otherwise: per process is not what is asked for.
"""

from __future__ import annotations

import os

from buildkit_py.errors import PybuildError
from buildkit_py.linux import cgroups
from buildkit_py.linux.cgroups import Group, Hierarchies
from buildkit_py.request import Limits
from buildkit_py.sandbox.spec import SandboxSpec

HINT = (
    "limits need control groups that are yours: start it by "
    "`systemd-run --user --scope -p Delegate=yes pybuild …`, or see `pybuild doctor`"
)
DOCTORS_HINT = "`pybuild doctor` says how to have your systemd give you more controllers"
ROOTS_HINT = "mount the control groups of this machine, or leave the limits out"


def check(limits: Limits, mode: str, starter: int) -> str:
    """A warning of what can't be limited here, "" where all can. Found out by trying.

    ``mode``, ``starter``: as for apply(). Raises PybuildError with ``--strict``, and for values that the
    kernel refuses.
    """
    if not limits.controlled:
        return ""
    _, group, warning = apply(SandboxSpec((), "", "", (), ()), limits, f"trial-{os.getpid()}", mode, starter)
    cgroups.sweep(group)
    group.remove()
    return warning


def apply(
    spec: SandboxSpec, limits: Limits, name: str, mode: str, starter: int, *, everywhere: bool = False
) -> tuple[SandboxSpec, Group, str]:
    """The spec with its limits; the group that they are in, to be removed when the sandbox has ended; and
    what can't be limited here, "" where all can.

    ``everywhere``: a group in every hierarchy, whatever is limited. ``name`` is the group's; one that is left
    of the same name is taken away. ``mode``: as of Identity. ``starter``: the process that starts the
    sandbox; an ordinary user's is moved into a group of its own where systemd gives one. This process isn't:
    in the login's group it holds the login open, with which the user's systemd would end.
    Raises SandboxError, and with ``--strict`` PybuildError for what can't be limited.
    """
    if not limits.controlled and not everywhere:
        return spec, Group(), ""
    found, refusal = _hierarchies(limits, mode, starter)
    group, missing = cgroups.create(name, limits, everywhere=everywhere, found=found)
    processes = limits.pids if "--pids-limit" in missing and mode != "root" else 0
    if processes:
        del missing["--pids-limit"]
    warning = ""
    if missing:
        reasons = "; ".join(filter(None, (*sorted(set(missing.values())), refusal)))
        warning = f"this machine doesn't let us set {', '.join(missing)}: {reasons}"
        if limits.strict:
            group.remove()
            hint = ROOTS_HINT if mode == "root" else DOCTORS_HINT if cgroups.divisible(found) else HINT
            raise PybuildError(warning, hint=hint)
    return spec._replace(cgroups=group.directories, processes=processes), group, warning


_refusals: dict[int, str] = {}
"""What systemd said for a starter. It is asked once, not for each step of a build."""


def _hierarchies(limits: Limits, mode: str, starter: int) -> tuple[Hierarchies, str]:
    """As a sandbox of the starter's sees them, with a group of version 2 that is ours if that can be had; and
    why the user's systemd, if there is one, gave none."""
    membership = f"/proc/{starter}/cgroup"
    found = cgroups.hierarchies(membership=membership)
    if mode == "root" or not cgroups.lacking(found, limits):
        return found, ""
    from buildkit_py.linux import systemd

    if starter not in _refusals:
        socket = systemd.bus()
        _refusals[starter] = systemd.scope(socket, starter) if socket else ""
    return cgroups.hierarchies(membership=membership), _refusals[starter]


def out_of_memory(limits: Limits) -> str:
    """What to say of a sandbox whose command the kernel killed so."""
    size = limits.memory >> 20
    return f"killed for lack of memory: its limit is {size} MiB (--memory)"
