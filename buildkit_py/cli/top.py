"""``pybuild top``"""

from __future__ import annotations

import os
import time

from buildkit_py.cli import report
from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.errors import PybuildError, UsageError

FULL = ("user", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
"""As `ps -ef` has them."""
WIDE = ("user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "stime", "time", "args")
"""As `ps aux` has them."""
HEADINGS = {
    "args": "COMMAND",
    "c": "C",
    "cmd": "CMD",
    "comm": "COMMAND",
    "etime": "ELAPSED",
    "ni": "NI",
    "nlwp": "NLWP",
    "pcpu": "%CPU",
    "pgid": "PGID",
    "pid": "PID",
    "pmem": "%MEM",
    "ppid": "PPID",
    "rss": "RSS",
    "sid": "SID",
    "stat": "STAT",
    "stime": "STIME",
    "time": "TIME",
    "tty": "TTY",
    "uid": "UID",
    "user": "USER",
    "vsz": "VSZ",
}
SAME = {"%cpu": "pcpu", "%mem": "pmem", "command": "args", "start": "stime", "tname": "tty", "tt": "tty"}
"""Further names that ps has for them."""


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.linux import processes

    names, headings = chosen(args.texts("options"))
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
    report.table([list(headings), *rows])
    return 0


def chosen(options: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields of ps's options and their headings: ``-ef``, ``aux``, ``-o pid,comm``. Raises UsageError for
    other options."""
    words = [word for word in options if word not in ("-e", "-A", "a", "x", "ax", "-ax")]
    if not words or words in (["-f"], ["-ef"], ["-Af"]):
        return FULL, ("UID", *(HEADINGS[name] for name in FULL[1:]))
    if words in (["aux"], ["-aux"], ["u"]):
        return WIDE, tuple("START" if name == "stime" else HEADINGS[name] for name in WIDE)
    text = words[-1] if words[0] in ("-o", "-eo", "-axo", "o") else words[0].removeprefix("-o")
    names = tuple(SAME.get(name, name) for name in text.lower().replace(" ", "").split(","))
    for name in names:
        if name not in HEADINGS:
            raise UsageError(
                f"there is no field '{name}'", hint="-ef, aux, or -o with some of " + ",".join(HEADINGS)
            )
    return names, tuple(HEADINGS[name] for name in names)


def describe(pid: int) -> dict[str, str]:
    """A process by the host's numbers, for those can be signalled; {} for one that is gone."""
    from buildkit_py.linux import processes

    fields, status = processes.stat(pid), processes.status(pid)
    if not fields or not status:
        return {}
    ticks = os.sysconf("SC_CLK_TCK")
    used = (int(fields[11]) + int(fields[12])) / ticks
    age = max(_uptime() - int(fields[19]) / ticks, 0.0)
    device = int(fields[4])
    uid, command = int(status["Uid"].split()[0]), processes.command(pid)
    memory = int(status.get("VmRSS", "0 kB").split()[0])
    return {
        "args": command,
        "c": str(int(100 * used / max(age, 1.0))),
        "cmd": command,
        "comm": status["Name"],
        "etime": _duration(int(age)),
        "ni": fields[16],
        "nlwp": status["Threads"],
        "pcpu": f"{100 * used / max(age, 1.0):.1f}",
        "pgid": fields[2],
        "pid": str(pid),
        "pmem": f"{100 * memory * 1024 / (os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')):.1f}",
        "ppid": fields[1],
        "rss": str(memory),
        "sid": fields[3],
        "stat": fields[0],
        "stime": time.strftime("%H:%M", time.localtime(time.time() - age)),
        "time": time.strftime("%H:%M:%S", time.gmtime(used)),
        "tty": f"pts/{device & 0xFF}" if device >> 8 == 136 else "?",
        "uid": str(uid),
        "user": _user(uid),
        "vsz": status.get("VmSize", "0 kB").split()[0],
    }


def _user(uid: int) -> str:
    """The host's name of a user, who has one."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _duration(seconds: int) -> str:
    """As ps has it: ``[[days-]hours:]minutes:seconds``."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{minutes:02}:{seconds:02}"
    text = f"{hours:02}:{text}" if hours or days else text
    return f"{days}-{text}" if days else text


def _uptime() -> float:
    with open("/proc/uptime") as f:
        return float(f.read().split()[0])


COMMAND = Command(
    "top",
    "Show the processes of a container, by the host's numbers.",
    (
        Argument("container", metavar="CONTAINER"),
        Argument("options", metavar="[-ef|aux|-o FIELD,...]", required=False, many=True),
    ),
    run,
    interspersed=False,
)
