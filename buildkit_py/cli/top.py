"""``pybuild top``"""

from __future__ import annotations

import os
import time

from buildkit_py.cli import report
from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.errors import PybuildError, UsageError

DEFAULT = ("uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
"""As `ps -ef` has them."""
FIELDS = (*DEFAULT, "args", "comm", "rss", "stat", "nlwp")


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.linux import processes

    names = chosen(args.texts("options"))
    engine = Engine()
    try:
        container = engine.containers.get(args.text("container"))
        state = container.state()
        if not state.pid:
            raise PybuildError(f"the container {container.name} is not running")
    finally:
        engine.close()
    described = [describe(pid) for pid in processes.members(state.pid)]
    rows = [[one[name] for name in names] for one in described if one]
    report.table([[name.upper() for name in names], *rows])
    return 0


def chosen(options: tuple[str, ...]) -> tuple[str, ...]:
    """The fields of ps's option ``-o pid,comm`` (also ``-eo``). Raises UsageError for other options."""
    words = [word for word in options if word not in ("-e", "-f", "-ef", "aux", "-A")]
    if not words:
        return DEFAULT
    text = words[-1] if words[0] in ("-o", "-eo", "o") else words[0].removeprefix("-o")
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in FIELDS:
            raise UsageError(f"there is no field '{name}'", hint="-o with some of " + ",".join(FIELDS))
    return names


def describe(pid: int) -> dict[str, str]:
    """A process by the host's numbers, for those can be signalled; {} for one that is gone."""
    from buildkit_py.linux import processes

    fields, status = processes.stat(pid), processes.status(pid)
    if not fields or not status:
        return {}
    ticks = os.sysconf("SC_CLK_TCK")
    used = (int(fields[11]) + int(fields[12])) / ticks
    began = time.time() - _uptime() + int(fields[19]) / ticks
    device = int(fields[4])
    command = processes.command(pid)
    return {
        "uid": status["Uid"].split()[0],
        "pid": str(pid),
        "ppid": fields[1],
        "c": str(int(100 * used / max(time.time() - began, 1.0))),
        "stime": time.strftime("%H:%M", time.localtime(began)),
        "tty": f"pts/{device & 0xFF}" if device >> 8 == 136 else "?",
        "time": time.strftime("%H:%M:%S", time.gmtime(used)),
        "cmd": command,
        "args": command,
        "comm": status["Name"],
        "rss": status.get("VmRSS", "0 kB").split()[0],
        "stat": fields[0],
        "nlwp": status["Threads"],
    }


def _uptime() -> float:
    with open("/proc/uptime") as f:
        return float(f.read().split()[0])


COMMAND = Command(
    "top",
    "Show the processes of a container, by the host's numbers.",
    (
        Argument("container", metavar="CONTAINER"),
        Argument("options", metavar="[-o FIELD,...]", required=False, many=True),
    ),
    run,
    interspersed=False,
)
