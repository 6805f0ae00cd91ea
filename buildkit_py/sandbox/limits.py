"""What a sandbox may use of the machine: by control groups, and where there are none, as far as it goes.

Without a control group for it, a limit of processes is had by RLIMIT_NPROC, which the kernel counts for each
user namespace since Linux 5.14; not for real root, which the kernel exempts. Memory and processors can't be
limited otherwise: per process is not what is asked for.
"""

from __future__ import annotations

import os

from buildkit_py.errors import PybuildError
from buildkit_py.linux import cgroups
from buildkit_py.linux.cgroups import Group
from buildkit_py.request import Limits
from buildkit_py.sandbox.spec import SandboxSpec

HINT = (
    "limits need control groups that are yours: start it by "
    "`systemd-run --user --scope -p Delegate=yes pybuild …`, or see `pybuild doctor`"
)
ROOTS_HINT = "mount the control groups of this machine, or leave the limits out"


def check(limits: Limits, mode: str) -> str:
    """A warning of what can't be limited here, "" where all can. Found out by trying.

    ``mode``: as of Identity. Raises PybuildError with ``--strict``, and for values that the kernel refuses.
    """
    if not limits.controlled:
        return ""
    _, group, warning = apply(SandboxSpec((), "", "", (), ()), limits, f"trial-{os.getpid()}", mode)
    cgroups.sweep(group)
    group.remove()
    return warning


def apply(
    spec: SandboxSpec, limits: Limits, name: str, mode: str, *, everywhere: bool = False
) -> tuple[SandboxSpec, Group, str]:
    """The spec with its limits; the group that they are in, to be removed when the sandbox has ended; and
    what can't be limited here, "" where all can.

    ``everywhere``: a group in every hierarchy, whatever is limited. ``name`` is the group's; one that is left
    of the same name is taken away. ``mode``: as of Identity.
    Raises SandboxError, and with ``--strict`` PybuildError for what can't be limited.
    """
    if not limits.controlled and not everywhere:
        return spec, Group(), ""
    group, missing = cgroups.create(name, limits, everywhere=everywhere)
    processes = limits.pids if "--pids-limit" in missing and mode != "root" else 0
    if processes:
        del missing["--pids-limit"]
    warning = ""
    if missing:
        reasons = "; ".join(sorted(set(missing.values())))
        warning = f"this machine doesn't let us set {', '.join(missing)}: {reasons}"
        if limits.strict:
            group.remove()
            raise PybuildError(warning, hint=HINT if mode != "root" else ROOTS_HINT)
    return spec._replace(cgroups=group.directories, processes=processes), group, warning


def out_of_memory(limits: Limits) -> str:
    """What to say of a sandbox whose command the kernel killed so."""
    size = limits.memory >> 20
    return f"killed for lack of memory: its limit is {size} MiB (--memory)"
