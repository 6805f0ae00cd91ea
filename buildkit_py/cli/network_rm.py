"""``pybuild network rm``"""

from __future__ import annotations

from buildkit_py.cli import report
from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.errors import NotFoundError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, networks

    engine = Engine()
    status = 0
    try:
        removed, failed = networks.remove_all(engine, args.texts("names"))
    finally:
        engine.close()
    for network in removed:
        print(network.name)
    for error in failed:
        if not (args.flag("force") and isinstance(error, NotFoundError)):
            status = report.show(error)
    return status


COMMAND = Command(
    "network rm",
    "Remove networks that no running container is on.",
    (
        flag("-f", "--force", help="Never mind networks that aren't there"),
        Argument("names", metavar="NETWORK...", many=True),
    ),
    run,
)
