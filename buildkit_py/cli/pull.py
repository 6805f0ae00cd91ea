"""``pybuild pull``"""

from __future__ import annotations

from buildkit_py.cli.build import PROGRESS
from buildkit_py.cli.command import Args, Argument, Command, flag, option


def run(args: Args) -> int:
    from buildkit_py.cli.session import Session

    with Session("quiet" if args.flag("quiet") else args.text("progress")) as session:
        images = [
            session.engine.pull(name, session.display, platform=args.text("platform"))
            for name in args.texts("images")
        ]
    for name, image in zip(args.texts("images"), images, strict=True):
        print(image.names[0] if image.names else name)
    return 0


COMMAND = Command(
    "pull",
    "Fetch images from their registries.",
    (
        option("--platform", metavar="OS/ARCH", help="The platform of an image for several"),
        option("--progress", metavar="MODE", choices=PROGRESS, default="auto", help="How progress is shown"),
        flag("-q", "--quiet", help="Print the names alone"),
        Argument("images", metavar="NAME[:TAG|@DIGEST]...", many=True),
    ),
    run,
)
