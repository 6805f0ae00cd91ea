"""``pybuild restart``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.cli.each import each
from buildkit_py.cli.stop import SIGNAL, TIME, means


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, containers

    signum, timeout = means(args)
    names = args.texts("containers")
    engine = Engine()
    try:
        engine.begin_starting(names)
        return each(engine, names, lambda c: containers.restart(engine, c, signum, timeout))
    finally:
        engine.close()


COMMAND = Command(
    "restart",
    "Stop containers, and start them again.",
    (SIGNAL, TIME, Argument("containers", metavar="CONTAINER...", many=True)),
    run,
)
