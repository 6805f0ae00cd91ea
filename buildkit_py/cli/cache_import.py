"""``pybuild cache import``"""

from __future__ import annotations

import sys

from buildkit_py.cli.build import PROGRESS
from buildkit_py.cli.cache_export import told
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    path = args.text("file")
    if path == "-" and sys.stdin.isatty():
        raise UsageError("an archive is not read from a terminal", hint="name a file, or redirect stdin")
    from buildkit_py.cli.session import Session

    with Session("quiet" if args.flag("quiet") else args.text("progress")) as session:
        moved = session.engine.import_cache(path, session.display)
    if not args.flag("quiet"):
        print(told("Imported", moved.steps, moved.mounts), file=sys.stderr)
    return 0


COMMAND = Command(
    "cache import",
    "Take the steps (and cache mounts) of a file by `pybuild cache export` into the build cache.",
    (
        option("--progress", metavar="MODE", choices=PROGRESS, default="auto", help="How progress is shown"),
        flag("-q", "--quiet", help="Show nothing"),
        Argument("file", metavar="FILE"),
    ),
    run,
)
