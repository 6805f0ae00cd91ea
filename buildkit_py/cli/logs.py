"""``pybuild logs``"""

from __future__ import annotations

import sys

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Argument, Command, flag, option


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.logs import LogRequest, entries

    tail = args.text("tail")
    request = LogRequest(
        follow=args.flag("follow"),
        tail=-1 if tail == "all" else values.whole(tail, "--tail") or 0,
        since=values.moment(args.text("since"), "--since"),
        until=values.moment(args.text("until"), "--until"),
    )
    engine = Engine()
    try:
        container = engine.containers.get(args.text("container"))
        stamps = args.flag("timestamps")
        for entry in entries(container, request):
            stream = sys.stderr if entry.stream == "stderr" else sys.stdout
            stream.write(f"{entry.time} {entry.text}" if stamps else entry.text)
            stream.flush()
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "logs",
    "Show what a container wrote: its stdout on stdout, its stderr on stderr.",
    (
        flag("-f", "--follow", help="Go on until it ends"),
        option("--since", metavar="TIME", help="2024-05-01T12:00:00, or 10m for ten minutes ago"),
        option("-n", "--tail", metavar="NUMBER", default="all", help="The last lines only"),
        flag("-t", "--timestamps", help="Begin each line with its time"),
        option("--until", metavar="TIME", help="As --since"),
        Argument("container", metavar="CONTAINER"),
    ),
    run,
)
