"""``pybuild pause``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.cli.each import with_engine


def run(args: Args) -> int:
    from buildkit_py.engine import containers

    return with_engine(args.texts("containers"), lambda _, c: containers.ask(c, {"op": "pause"}))


COMMAND = Command(
    "pause",
    "Stop all processes of containers until `unpause`.",
    (Argument("containers", metavar="CONTAINER...", many=True),),
    run,
)
