"""``pybuild import``"""

from __future__ import annotations

import sys

from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    source = args.text("source")
    if source == "-" and sys.stdin.isatty():
        raise UsageError("an archive is not read from a terminal", hint="name a FILE, or redirect stdin")
    from buildkit_py.cli.session import Session

    with Session("quiet") as session:
        image = session.engine.import_tar(
            source,
            args.text("name"),
            changes=args.texts("changes"),
            message=args.text("message"),
            platform=args.text("platform"),
        )
    print(image.id)
    return 0


COMMAND = Command(
    "import",
    "Make an image of one layer out of a root file system's tar, compressed or not.",
    (
        option(
            "-c", "--change", name="changes", multiple=True, metavar="INSTRUCTION", help="Apply CMD, ENV, …"
        ),
        option("-m", "--message", metavar="TEXT", help="The comment of its history"),
        option("--platform", metavar="OS/ARCH", help="The platform of what is in the tar"),
        Argument("source", metavar="FILE|URL|-"),
        Argument("name", metavar="[NAME[:TAG]]", required=False),
    ),
    run,
    examples=("pybuild import -c 'CMD [\"bash\"]' debian.tar debian:12",),
)
