"""``pybuild wait``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.cli.each import with_engine


def run(args: Args) -> int:
    from buildkit_py.engine import containers

    return with_engine(args.texts("containers"), lambda _, c: str(containers.wait(c)))


COMMAND = Command(
    "wait",
    "Wait until containers have ended, and print their exit statuses.",
    (Argument("containers", metavar="CONTAINER...", many=True),),
    run,
)
