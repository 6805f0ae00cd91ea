"""What a container may use of the machine, as it is typed."""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.request import Limits

_SMALLEST = 6 << 20
"""Docker's least memory: less doesn't hold a process."""


def translate(args: Args, *, added: bool = False) -> Limits:
    """Raises UsageError for values of a wrong form. ``added``: to limits that there are already."""
    memory = values.size(args.text("memory"), "--memory")
    if 0 < memory < _SMALLEST:
        raise UsageError("--memory: the least is 6m")
    reservation = values.size(args.text("memory_reservation"), "--memory-reservation")
    if memory and reservation > memory:
        raise UsageError("--memory-reservation can't be more than --memory")
    return Limits(
        shm_size=values.size(args.text("shm_size"), "--shm-size"),
        memory=memory,
        memory_swap=_swap(args.text("memory_swap"), memory, added=added),
        memory_reservation=reservation,
        cpus=_processors(args),
        cpu_shares=_number(args.text("cpu_shares"), "--cpu-shares", 2, 262144),
        cpuset_cpus=_list(args.text("cpuset_cpus"), "--cpuset-cpus"),
        cpuset_mems=_list(args.text("cpuset_mems"), "--cpuset-mems"),
        pids=_number(args.text("pids_limit"), "--pids-limit", -1, 1 << 22),
        blkio_weight=_number(args.text("blkio_weight"), "--blkio-weight", 10, 1000),
        cgroup_parent=_parent(args.text("cgroup_parent")),
        strict=args.flag("strict"),
    )


def _swap(text: str, memory: int, *, added: bool) -> int:
    both = -1 if text == "-1" else values.size(text, "--memory-swap")
    if both > 0 and not memory and not added:
        raise UsageError("--memory-swap needs --memory", hint="it is memory and swap together")
    if 0 < both < memory:
        raise UsageError("--memory-swap is memory and swap together: it can't be less than --memory")
    return both


def _cpus(text: str) -> float:
    if not text:
        return 0.0
    try:
        number = float(text)
    except ValueError:
        number = -1
    if number and not 0.01 <= number <= 4096:
        raise UsageError(f"--cpus: '{text}' is not a number of processors", hint="for example 1.5")
    return number


def _processors(args: Args) -> float:
    """``--cpus``, or ``--cpu-quota`` of ``--cpu-period``, microseconds both, as a number of processors."""
    cpus = _cpus(args.text("cpus"))
    text = args.text("cpu_quota")
    quota = 0 if text == "-1" else _number(text, "--cpu-quota", 1000, 1 << 40)
    period = _number(args.text("cpu_period"), "--cpu-period", 1000, 1_000_000)
    for name, number in (("--cpu-quota", quota), ("--cpu-period", period)):
        if cpus and number:
            raise UsageError(f"--cpus and {name} exclude each other")
    return cpus or quota / (period or 100_000)


def _number(text: str, name: str, least: int, most: int) -> int:
    if not text:
        return 0
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number and not least <= number <= most:
        raise UsageError(f"{name}: '{text}' is not a number from {least} to {most}")
    return number


def _list(text: str, name: str) -> str:
    if not text:
        return ""
    import re

    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise UsageError(f"{name}: '{text}' is not of the form 0-2,4")
    return text


def _parent(text: str) -> str:
    if ".." in text.split("/"):
        raise UsageError(f"--cgroup-parent: '{text}' leads out")
    return text


OPTIONS = (
    option("--blkio-weight", metavar="NUMBER", help="Share of the disks' time, 10 to 1000"),
    option("--cgroup-parent", metavar="PATH", help="The control group to make its own in"),
    option("--cpu-period", metavar="NUMBER", help="The time of --cpu-quota, in microseconds (100000)"),
    option(
        "--cpu-quota", metavar="NUMBER", help="So many microseconds of processor time in each --cpu-period"
    ),
    option(
        "-c", "--cpu-shares", metavar="NUMBER", help="Share of the processors' time where it is short (1024)"
    ),
    option("--cpus", metavar="NUMBER", help="So many processors' time at most, 1.5 for example"),
    option("--cpuset-cpus", metavar="LIST", help="The processors that it may use, 0-2,4 for example"),
    option("--cpuset-mems", metavar="LIST", help="The memory nodes that it may use"),
    option("-m", "--memory", metavar="BYTES", help="So much memory at most"),
    option("--memory-reservation", metavar="BYTES", help="Memory that is left to it where memory is short"),
    option("--memory-swap", metavar="BYTES", help="Memory and swap together at most; -1: any swap"),
    option("--pids-limit", metavar="NUMBER", help="So many processes and threads at most; -1: any number"),
    option("--shm-size", metavar="BYTES", help="Size of /dev/shm"),
    flag("--strict", help="Fail where a limit can't be set on this machine"),
)
