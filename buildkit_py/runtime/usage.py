"""What a container uses of the machine while it runs: of its control group where it has one, else the sum
over its processes."""

from __future__ import annotations

import os
import time

from buildkit_py.linux import processes
from buildkit_py.linux.cgroups import Group
from buildkit_py.tuples import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    when: float
    """time.monotonic()"""
    cpu: float
    """Seconds of processors that were used."""
    memory: int
    """Bytes."""
    limit: int
    """Bytes that it may have: its own limit, else the machine's memory."""
    received: int
    """Bytes by network, all devices but the loopback; so is ``sent``."""
    sent: int
    read: int
    """Bytes from disks; so is ``written``."""
    written: int
    processes: int


def measure(directory: str, first: int) -> Usage | None:
    """Of the container in ``directory`` with this first process; None where it is gone."""
    pids = processes.members(first)
    if not pids:
        return None
    group = Group.read(f"{directory}/cgroup")
    cpu = sum(_cpu(pid) for pid in pids)
    memory = sum(_resident(pid) for pid in pids)
    limit = total = _machine()
    for own in group.directories:
        memory = _number(f"{own}/memory.current") or _number(f"{own}/memory.usage_in_bytes") or memory
        limit = _number(f"{own}/memory.max") or _number(f"{own}/memory.limit_in_bytes") or limit
        cpu = max(cpu, _group_cpu(own))
    received, sent = _traffic(first)
    read = written = 0
    for pid in pids:
        fields = _fields(f"/proc/{pid}/io")
        read += fields.get("read_bytes", 0)
        written += fields.get("write_bytes", 0)
    return Usage(
        time.monotonic(), cpu, memory, min(limit, total), received, sent, read, written, _threads(pids)
    )


def _cpu(pid: int) -> float:
    fields = processes.stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _group_cpu(directory: str) -> float:
    micro = _fields(f"{directory}/cpu.stat").get("usage_usec", 0)
    return micro / 1e6 or _number(f"{directory}/cpuacct.usage") / 1e9


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as f:
            return int(f.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _threads(pids: list[int]) -> int:
    return sum(int(processes.status(pid).get("Threads", 0)) for pid in pids)


def _machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


def _traffic(pid: int) -> tuple[int, int]:
    """Of the network that is the container's own; nothing of the host's."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return 0, 0
        with open(f"/proc/{pid}/net/dev") as f:
            lines = [line.replace(":", " ").split() for line in f][2:]
    except OSError:
        return 0, 0
    devices = [line for line in lines if line[0] != "lo"]
    return sum(int(line[1]) for line in devices), sum(int(line[9]) for line in devices)


def _fields(path: str) -> dict[str, int]:
    try:
        with open(path) as f:
            pairs = [line.replace(":", " ").split() for line in f]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: str) -> int:
    """0 where there is none, or no limit."""
    try:
        with open(path) as f:
            text = f.read().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0
