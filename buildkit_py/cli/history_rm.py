"""``pybuild history rm``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    wanted, everything = args.texts("builds"), args.flag("all")
    if bool(wanted) == everything:
        raise UsageError("name builds, or give --all", hint="'pybuild history ls' shows them")
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        history = engine.history
        if everything:
            builds = [build for build in history.builds() if build.status != "running"]
        else:
            builds = [history.find(ref) for ref in wanted]  # all of them, before ^1 means another
        for build in {build.id: build for build in builds}.values():
            history.remove(build)
            print(build.id)
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "history rm",
    "Forget builds and their logs; images and cache stay.",
    (
        flag("-a", "--all", help="All that have ended"),
        Argument("builds", metavar="[BUILD]", required=False, many=True),
    ),
    run,
)
