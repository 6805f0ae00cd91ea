"""``pybuild logs``"""

from __future__ import annotations

import sys

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.runtime.config import Config


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
        details = _details(container.config()) if args.flag("details") else ""
        for entry in entries(container, request):
            stream = sys.stderr if entry.stream == "stderr" else sys.stdout
            stream.write((f"{entry.time} " if stamps else "") + details + entry.text)
            stream.flush()
    finally:
        engine.close()
    return 0


def _details(config: Config) -> str:
    """The labels and variables that ``--log-opt labels=…,env=…`` chose, before each line."""
    from buildkit_py.runtime import description
    from buildkit_py.runtime.process import environment

    env = dict(item.partition("=")[::2] for item in environment(config.image_config, config.request, "", ""))
    found = {name: env[name] for name in config.request.log.env if name in env}
    labels = description.labels(config)
    found |= {name: labels[name] for name in config.request.log.labels if name in labels}
    return ",".join(f"{name}={found[name]}" for name in sorted(found)) + " "


COMMAND = Command(
    "logs",
    "Show what a container wrote: its stdout on stdout, its stderr on stderr.",
    (
        flag("--details", help="Begin each line with what --log-opt labels= and env= chose"),
        flag("-f", "--follow", help="Go on until it ends"),
        option("--since", metavar="TIME", help="2024-05-01T12:00:00, or 10m for ten minutes ago"),
        option("-n", "--tail", metavar="NUMBER", default="all", help="The last lines only"),
        flag("-t", "--timestamps", help="Begin each line with its time"),
        option("--until", metavar="TIME", help="As --since"),
        Argument("container", metavar="CONTAINER"),
    ),
    run,
)
