"""Pausing a container: by its control group's freezer, else by stopping each of its processes.

A process that is stopped by signal notices, and one of its own could continue it; a frozen one does not.
"""

from __future__ import annotations

import os
import signal

from buildkit_py.linux import processes
from buildkit_py.linux.cgroups import Group

_ROUNDS = 100
"""How often to look again for processes that were started while the others were stopped."""


def freeze(directory: str, first: int, frozen: bool) -> None:
    """Stop or continue all processes of the container in ``directory``, whose first one is ``first``."""
    if Group.read(f"{directory}/cgroup").freeze(frozen):
        return
    done: set[int] = set()
    for _ in range(_ROUNDS):
        left = [pid for pid in processes.members(first) if pid not in done]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)
            except ProcessLookupError:
                pass
            done.add(pid)
