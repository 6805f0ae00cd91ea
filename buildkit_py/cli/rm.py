"""``pybuild rm``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_py.cli import report
from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.cli.each import each
from buildkit_py.errors import NotFoundError

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, containers

    force, volumes = args.flag("force"), args.flag("volumes")
    names = args.texts("containers")
    engine = Engine()
    try:
        engine.begin(supervisors=0)
        if force:
            # Docker's rule: what is not there is named, but needs no removal.
            names = tuple(name for name in names if _is_there(engine, name))
        return each(engine, names, lambda c: containers.remove(engine, c, force=force, volumes=volumes))
    finally:
        engine.close()


def _is_there(engine: Engine, name: str) -> bool:
    try:
        engine.containers.get(name)
    except NotFoundError as error:
        report.show(error)
        return False
    return True


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
