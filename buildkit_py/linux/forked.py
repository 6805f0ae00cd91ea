"""A process forked from this one to live beside it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterable

from buildkit_py.errors import SandboxError
from buildkit_py.linux import hints
from buildkit_py.linux import syscalls as sc


def fork() -> int:
    """As os.fork(). Raises SandboxError where there may be no more processes."""
    try:
        return os.fork()
    except OSError as e:
        number = e.errno or 0
        raise SandboxError(
            f"fork: {e.strerror}", call="clone", errno=number, hint=hints.hint("clone", number)
        ) from e


def settle(keep: Iterable[int], *, dies_with_parent: bool = True) -> None:
    """Let go of all that belongs to the parent: descriptors but for ``keep``, session, signals.

    To be called first thing in the child. The parent may have died before: whoever must not outlive it
    watches a descriptor that the parent holds, too.
    """
    if dies_with_parent:
        sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    first = 3
    for fd in sorted(set(keep)):
        if fd > first:
            sc.close_range(first, fd - 1)
        first = max(first, fd + 1)
    sc.close_range(first)
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.disable()
    gc.freeze()
