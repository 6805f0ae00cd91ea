"""``pybuild rmi``"""

from __future__ import annotations

from buildkit_py.cli import report
from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.cli.images import familiar
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    status = 0
    try:
        for name in args.texts("images"):
            # As docker does: one that can't be removed does not keep the others.
            try:
                if not args.flag("force"):
                    _refuse_used(engine, name)
                removed = engine.images.remove(name, force=args.flag("force"))
            except NotFoundError as error:
                if not args.flag("force"):
                    status = report.show(error)
                continue
            except PybuildError as error:
                status = report.show(error)
                continue
            for tag in removed.untagged:
                print("Untagged:", familiar(tag))
            for digest in removed.deleted:
                print("Deleted:", digest)
    finally:
        engine.close()
    return status


def _refuse_used(engine: Engine, name: str) -> None:
    """Docker's rule. Nothing would break: a container keeps what it stands on. Raises PybuildError."""
    image = engine.images.match(name, "")
    if image is None or len(engine.images.find(image.id).names) > 1:
        return
    for container in engine.containers.list():
        if container.image == image.id:
            raise PybuildError(
                f"the container {container.name} was made of the image {name}",
                hint=f"`pybuild rm {container.name}` first, or rmi -f",
            )


COMMAND = Command(
    "rmi",
    "Remove images.\n\nA name is taken away; an image goes with its last name. What it takes on disk is "
    "freed by 'pybuild prune'.",
    (
        flag("-f", "--force", help="Remove an image by id with all its names; never mind missing ones"),
        Argument("images", metavar="IMAGE...", many=True),
    ),
    run,
)
