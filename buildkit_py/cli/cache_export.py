"""``pybuild cache export``"""

from __future__ import annotations

import sys

from buildkit_py.cli.build import PROGRESS
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    path = args.text("file")
    if path == "-" and sys.stdout.isatty():
        raise UsageError("an archive is not written to a terminal", hint="name a file, or redirect stdout")
    from buildkit_py.cli.session import Session
    from buildkit_py.layer.compress import COMPRESSION

    with Session("quiet" if args.flag("quiet") else args.text("progress")) as session:
        method = COMPRESSION[args.text("compression")]
        moved = session.engine.export_cache(path, session.display, method, args.flag("mounts"))
    if not args.flag("quiet"):
        print(told("Exported", moved.steps, moved.mounts), file=sys.stderr)
    return 0


def told(what: str, steps: int, mounts: int) -> str:
    """``Exported 3 steps and 1 cache mount``"""
    text = f"{what} {steps} step{'s' * (steps != 1)}"
    return text + (f" and {mounts} cache mount{'s' * (mounts != 1)}" if mounts else "")


COMMAND = Command(
    "cache export",
    "Write the whole build cache to one file, for `pybuild cache import` on another machine.",
    (
        option(
            "--compression",
            choices=("zstd", "gzip", "uncompressed"),
            default="zstd",
            help="Of layers that are not compressed yet",
        ),
        flag("--mounts", help="The contents of cache mounts, too"),
        option("--progress", metavar="MODE", choices=PROGRESS, default="auto", help="How progress is shown"),
        flag("-q", "--quiet", help="Show nothing"),
        Argument("file", metavar="FILE"),
    ),
    run,
    examples=("pybuild cache export cache.tar", "pybuild cache export - | ssh host pybuild cache import -"),
)
