"""``pybuild rm``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.cli.each import each


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, containers

    force, volumes = args.flag("force"), args.flag("volumes")
    engine = Engine()
    try:
        engine.begin(supervisors=0)
        # Docker's rule: what is not there is named, but is no error where the removal is forced.
        absent = 0 if force else 1
        return each(
            engine,
            args.texts("containers"),
            lambda container: containers.remove(engine, container, force=force, volumes=volumes),
            absent=absent,
        )
    finally:
        engine.close()


COMMAND = Command(
    "rm",
    "Remove containers with all that they wrote.",
    (
        flag("-f", "--force", help="Kill those that run; one that isn't there is no error"),
        flag("-v", "--volumes", help="Remove their anonymous volumes, too"),
        Argument("containers", metavar="CONTAINER...", many=True),
    ),
    run,
)
