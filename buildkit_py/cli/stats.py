"""``pybuild stats``"""

from __future__ import annotations

import sys
import time

from buildkit_py.cli import listing, sizes
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.runtime.container import Container
    from buildkit_py.runtime.usage import Usage

HEADINGS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
    "Container": "CONTAINER",
}
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
INTERVAL = 1.0
"""Seconds between two looks, over which the share of a processor is taken."""


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        # What others of our processes read and write, only their owner may know.
        engine.begin(supervisors=0)
        names, form = args.texts("containers"), args.text("format")
        everything = args.flag("all")
        before = look(chosen(engine, names, everything=everything))
        while True:
            time.sleep(INTERVAL)
            containers = chosen(engine, names, everything=everything)
            now = look(containers)
            rows = [
                fields(c, before.get(c.id), now.get(c.id), whole=args.flag("no_trunc")) for c in containers
            ]
            if not args.flag("no_stream") and sys.stdout.isatty() and form in ("", "table"):
                sys.stdout.write("\x1b[2J\x1b[H")
            listing.show(rows, HEADINGS, form, COLUMNS)
            sys.stdout.flush()
            if args.flag("no_stream"):
                return 0
            before = now
    finally:
        engine.close()


def chosen(engine: Engine, names: tuple[str, ...], *, everything: bool) -> list[Container]:
    if names:
        return [engine.containers.get(name) for name in names]
    return [c for c in engine.containers.list() if everything or c.alive()]


def look(containers: list[Container]) -> dict[str, Usage]:
    from buildkit_py.runtime.usage import measure

    found = {}
    for container in containers:
        first = container.state().pid
        usage = measure(container.path, first) if first else None
        if usage is not None:
            found[container.id] = usage
    return found


def fields(container: Container, before: Usage | None, now: Usage | None, *, whole: bool) -> dict[str, str]:
    result = {
        "ID": container.id if whole else container.id[:12],
        "Container": container.id if whole else container.id[:12],
        "Name": container.name,
    }
    if now is None:
        return result | {
            "CPUPerc": "--",
            "MemUsage": "-- / --",
            "MemPerc": "--",
            "NetIO": "--",
            "BlockIO": "--",
            "PIDs": "--",
        }
    share = 0.0
    if before is not None and now.when > before.when:
        share = max(now.cpu - before.cpu, 0.0) / (now.when - before.when)
    return result | {
        "CPUPerc": f"{100 * share:.2f}%",
        "MemUsage": f"{sizes.binary(now.memory)} / {sizes.binary(now.limit)}",
        "MemPerc": f"{100 * now.memory / now.limit:.2f}%",
        "NetIO": f"{sizes.size(now.received)} / {sizes.size(now.sent)}",
        "BlockIO": f"{sizes.size(now.read)} / {sizes.size(now.written)}",
        "PIDs": str(now.processes),
    }


COMMAND = Command(
    "stats",
    "Show what containers use of the machine.",
    (
        flag("-a", "--all", help="Those that don't run, too"),
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.Name}} {{.CPUPerc}}'"),
        flag("--no-stream", help="Look once only"),
        flag("--no-trunc", help="Show whole ids"),
        Argument("containers", metavar="[CONTAINER...]", required=False, many=True),
    ),
    run,
)
