"""``pybuild debug dump-ast``"""

from __future__ import annotations

import sys

from buildkit_py.cli.command import Args, Argument, Command


def run(args: Args) -> int:
    from buildkit_py.frontends.dockerfile.dump import dump_ast

    sys.stdout.buffer.write(dump_ast(args.text("file")))
    return 0


COMMAND = Command(
    "debug dump-ast",
    "Print a Dockerfile's syntax tree as JSON.",
    (Argument("file", metavar="FILE"),),
    run,
)
