"""``pybuild run``"""

from __future__ import annotations

import sys

from buildkit_py.cli.command import Args, Command
from buildkit_py.cli.container_options import ARGUMENTS, OPTIONS, translate
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    request = translate(args)
    if request.terminal and request.interactive and not sys.stdin.isatty():
        raise UsageError("-t needs a terminal on stdin", hint="leave -t out when stdin is a pipe or a file")
    from buildkit_py.cli.session import Session

    # A display that has nothing to show costs nothing; it is there for a pull.
    with Session("quiet" if args.flag("quiet") else "auto", passes_signals=True) as session:
        return session.engine.run(request, session.display, session.display.close)


COMMAND = Command(
    "run",
    "Run a command in a new container.\n\nThe command's exit status is passed on; 125 says that pybuild "
    "itself failed, 126 that the command can't be run, 127 that it isn't there.",
    (*OPTIONS, *ARGUMENTS),
    run,
    interspersed=False,
    error_status=125,
    examples=(
        "pybuild run --rm -it debian:12 bash",
        "pybuild run --rm -v .:/work -w /work python:3.12 python x.py",
    ),
)
