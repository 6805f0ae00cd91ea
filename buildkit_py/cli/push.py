"""``pybuild push``"""

from __future__ import annotations

from buildkit_py.cli.build import PROGRESS
from buildkit_py.cli.command import Args, Argument, Command, flag, option


def run(args: Args) -> int:
    from buildkit_py.cli.session import Session

    with Session("quiet" if args.flag("quiet") else args.text("progress")) as session:
        names = list(args.texts("images"))
        if args.flag("all_tags"):
            names = [name for repository in names for name in session.engine.tags_here(repository)]
        pushed = [(name, session.engine.push(name, session.display)) for name in names]
    for name, digest in pushed:
        print(name if args.flag("quiet") else f"{name}: digest: {digest}")
    return 0


COMMAND = Command(
    "push",
    "Send images to their registries.",
    (
        flag("-a", "--all-tags", help="Send all tags of a repository"),
        option("--progress", metavar="MODE", choices=PROGRESS, default="auto", help="How progress is shown"),
        flag("-q", "--quiet", help="Print the names alone"),
        Argument("images", metavar="NAME[:TAG]...", many=True),
    ),
    run,
)
