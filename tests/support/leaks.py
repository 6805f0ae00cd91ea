"""What a test may not leave behind: mounts, processes, open files, environment variables.

The pytest process makes itself the reaper of all that its tests start (PR_SET_CHILD_SUBREAPER), so that a
process whose parents are gone, whatever its user and namespace, still shows as a descendant.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 5.0
# pytest's own, set anew for each phase of a test.
OWN_VARIABLES = ("PYTEST_CURRENT_TEST", "COLUMNS", "LINES")


class Held(NamedTuple):
    """What this process holds at one moment."""

    mounts: frozenset[str]
    processes: frozenset[tuple[int, str]]
    files: frozenset[tuple[int, str]]
    environment: frozenset[tuple[str, str]]


def become_reaper() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def held() -> Held:
    _reap()
    return Held(_mounts(), _processes(), _files(), _environment())


def leaked(before: Held) -> str:
    """What is held now and was not before, as text; empty when nothing is."""
    kinds: list[tuple[str, Callable[[], frozenset[object]], frozenset[object]]] = [
        ("mount", _mounts, before.mounts),
        ("process", _processes, before.processes),
        ("open file", _files, before.files),
        ("environment variable", _environment, before.environment),
    ]
    return "\n".join(f"leaked {kind}: {thing}" for kind, look, old in kinds for thing in patiently(look, old))


def patiently(look: Callable[[], frozenset[object]], old: frozenset[object]) -> list[str]:
    """What is on its way out is no leak: a killed process takes a moment, a collected object too."""
    extra = look() - old
    if extra:
        gc.collect()
    deadline = time.monotonic() + PATIENCE
    while extra and time.monotonic() < deadline:
        time.sleep(0.02)
        extra = look() - old
    return sorted(map(str, extra))


def _reap() -> None:
    """Take leave of the orphans that have ended: by the thousand they make every look at /proc slow. What a
    fixture started, and has ended unasked, goes, too: whoever waits for it hears of status 0."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _mounts() -> frozenset[str]:
    """Mounts of ours, by their place or source: others on the machine mount things too."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if "pybuild" in line]
    return frozenset(" ".join(line.split()[3:5]) + " " + line.split(" - ")[1].strip() for line in lines)


def _processes() -> frozenset[tuple[int, str]]:
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                name, _, rest = file.read().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if state not in "ZX":
            parents[int(entry)] = int(parent)
            names[int(entry)] = name.partition("(")[2]
    own = os.getpid()
    found = {pid for pid in parents if _descends(pid, own, parents)}
    return frozenset((pid, names[pid]) for pid in found)


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    for _ in range(100):
        pid = parents.get(pid, 0)
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
    return False


def _files() -> frozenset[tuple[int, str]]:
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if not target.startswith("/proc/"):
            found.add((int(entry), target))
    return frozenset(found)


def _environment() -> frozenset[tuple[str, str]]:
    return frozenset(item for item in os.environ.items() if item[0] not in OWN_VARIABLES)
