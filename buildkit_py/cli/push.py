"""``pybuild push``"""

from __future__ import annotations

from buildkit_py.cli.build import PROGRESS
from buildkit_py.cli.command import Args, Argument, Command, flag, option


def run(args: Args) -> int:
    from buildkit_py.cli.session import Session

    with Session("quiet" if args.flag("quiet") else args.text("progress")) as session:
        pushed = [(name, session.engine.push(name, session.display)) for name in args.texts("images")]
    for name, digest in pushed:
        print(name if args.flag("quiet") else f"{name}: digest: {digest}")
    return 0


COMMAND = Command(
    "push",
    "Send images to their registries.",
    (
        option("--progress", metavar="MODE", choices=PROGRESS, default="auto", help="How progress is shown"),
        flag("-q", "--quiet", help="Print the names alone"),
        Argument("images", metavar="NAME[:TAG]...", many=True),
    ),
    run,
)
