"""``pybuild rm``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.cli.each import each


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, containers

    force, volumes = args.flag("force"), args.flag("volumes")
    names = args.texts("containers")
    engine = Engine()
    try:
        engine.begin(supervisors=0)
        if force:
            # Docker's rule: what is not there needs no removal.
            names = tuple(name for name in names if engine.containers.find(name) is not None)
        return each(engine, names, lambda c: containers.remove(engine, c, force=force, volumes=volumes))
    finally:
        engine.close()


COMMAND = Command(
    "rm",
    "Remove containers with all that they wrote.",
    (
        flag("-f", "--force", help="Kill those that run; say nothing of those that aren't there"),
        flag("-v", "--volumes", help="Remove their anonymous volumes, too"),
        Argument("containers", metavar="CONTAINER...", many=True),
    ),
    run,
)
