"""``pybuild load``"""

from __future__ import annotations

import sys

from buildkit_py.cli.build import PROGRESS
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.cli.images import familiar
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    path = args.text("input")
    if path in ("", "-") and sys.stdin.isatty():
        raise UsageError("an archive is not read from a terminal", hint="use -i FILE, or redirect stdin")
    from buildkit_py.cli.session import Session

    with Session("quiet" if args.flag("quiet") else args.text("progress")) as session:
        loaded = session.engine.load(path or "-", session.display)
    for name in dict.fromkeys(name for image in loaded for name in image.names):
        print("Loaded image:", familiar(name))
    for image in loaded:
        if not image.names:
            print("Loaded image ID:", image.id)
    return 0


COMMAND = Command(
    "load",
    "Read images from an archive in docker's or OCI's layout, compressed or not, or an OCI directory.",
    (
        option("-i", "--input", metavar="FILE", help="Where from (default: stdin)"),
        option("--progress", metavar="MODE", choices=PROGRESS, default="auto", help="How progress is shown"),
        flag("-q", "--quiet", help="Don't show progress"),
    ),
    run,
)
