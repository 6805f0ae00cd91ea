"""``pybuild pull``"""

from __future__ import annotations

from buildkit_py.cli.build import PROGRESS
from buildkit_py.cli.command import Args, Argument, Command, flag, option


def run(args: Args) -> int:
    from buildkit_py.cli.session import Session

    with Session("quiet" if args.flag("quiet") else args.text("progress")) as session:
        names = list(args.texts("images"))
        if args.flag("all_tags"):
            names = [name for repository in names for name in session.engine.tags_there(repository)]
        images = [
            session.engine.pull(name, session.display, platform=args.text("platform")) for name in names
        ]
    for name, image in zip(names, images, strict=True):
        print(image.names[0] if image.names and not args.flag("all_tags") else name)
    return 0


COMMAND = Command(
    "pull",
    "Fetch images from their registries.",
    (
        flag("-a", "--all-tags", help="Fetch all tags of a repository"),
        option("--platform", metavar="OS/ARCH", help="The platform of an image for several"),
        option("--progress", metavar="MODE", choices=PROGRESS, default="auto", help="How progress is shown"),
        flag("-q", "--quiet", help="Print the names alone"),
        Argument("images", metavar="NAME[:TAG|@DIGEST]...", many=True),
    ),
    run,
)
