"""``pybuild history report``"""

from __future__ import annotations

import sys

from buildkit_py import textfile
from buildkit_py.cli.command import Args, Command, option
from buildkit_py.cli.history_inspect import BUILD
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    output = args.text("output")
    engine = Engine()
    try:
        build = engine.history.find(args.text("build"))
        data = engine.report(build)
    finally:
        engine.close()
    if output == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    path = output or f"build-{build.id}.html"
    try:
        textfile.write(path, data)
    except OSError as error:
        raise UsageError(f"--output: can't write {path}: {error.strerror}") from error
    if not output:
        print(path)
    return 0


COMMAND = Command(
    "history report",
    "Write a build as one HTML page: timeline, graph, reasons and logs.\n\n"
    "The page needs no network and no other file.",
    (
        option("-o", "--output", metavar="FILE", help="Write it here (default: build-ID.html); - for stdout"),
        BUILD,
    ),
    run,
    examples=("pybuild history report -o report.html",),
)
