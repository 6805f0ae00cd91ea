"""``pybuild volume rm``"""

from __future__ import annotations

from functools import partial

from buildkit_py.cli import report
from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.errors import PybuildError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.containers import users

    engine = Engine()
    status = 0
    try:
        # Its files may be those of the user's subordinate ids.
        engine.begin(supervisors=0)
        engine.enter()
        for name in args.texts("names"):
            try:
                if args.flag("force") and engine.volumes.find(name) is None:
                    continue
                engine.volumes.remove(name, partial(users, engine, name))
                print(name, flush=True)
            except PybuildError as error:
                status = report.show(error)
    finally:
        engine.close()
    return status


COMMAND = Command(
    "volume rm",
    "Remove volumes that no container has.",
    (
        flag("-f", "--force", help="Say nothing of those that aren't there"),
        Argument("names", metavar="VOLUME...", many=True),
    ),
    run,
)
