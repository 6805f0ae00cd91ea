"""The processes of a sandbox as the host sees them, found without privileges (proc(5)).

A sandbox's first process is the child of the process that started it; what joined the sandbox later is that
one's grandchild, and what lost its parent is the first process's. Those of them that are in a deeper process
namespace than the starting process are the sandbox's; where there is none of its own, all below the first.
"""

from __future__ import annotations

import os

from buildkit_py.tuples import NamedTuple


class Process(NamedTuple):
    pid: int
    parent: int
    level: int
    """How many process namespaces deep."""


def members(first: int) -> list[int]:
    """The processes of the sandbox whose process 1 is ``first``, that one first; none where it is gone."""
    known = {process.pid: process for process in _all()}
    if first not in known:
        return []
    starter = known.get(known[first].parent)
    below: dict[int, list[int]] = {}
    for process in known.values():
        below.setdefault(process.parent, []).append(process.pid)
    found = {first, *_descendants(first, below)}
    if starter is not None and known[first].level > starter.level:
        found |= {p for p in _descendants(starter.pid, below) if known[p].level > starter.level}
    return [first, *sorted(found - {first})]


def _descendants(pid: int, below: dict[int, list[int]]) -> list[int]:
    found: list[int] = []
    todo = [pid]
    while todo:
        children = below.get(todo.pop(), [])
        found += children
        todo += children
    return found


def _all() -> list[Process]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            process = _read(int(entry))
            if process is not None:
                found.append(process)
    return found


def _read(pid: int) -> Process | None:
    fields = status(pid)
    if not fields or fields.get("State", "Z")[0] in "ZX":
        return None
    return Process(pid, int(fields["PPid"]), len(fields.get("NSpid", "0").split()))


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status; empty where the process is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in f)}
    except OSError:
        return {}


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; empty where the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return []


def command(pid: int) -> str:
    """The command line, or the name in brackets where it has none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            words = f.read().rstrip(b"\0").split(b"\0")
    except OSError:
        words = [b""]
    text = b" ".join(words).decode("utf-8", "replace")
    return text or f"[{status(pid).get('Name', '?')}]"
