"""``pybuild run``"""

from __future__ import annotations

import os
import sys

from buildkit_py.cli import streams
from buildkit_py.cli.command import Args, Command, flag
from buildkit_py.cli.container_options import ARGUMENTS, OPTIONS, IdFile, translate
from buildkit_py.engine.client import Client
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    detached = args.flag("detach")
    chosen = streams.chosen(args.texts("attach"))
    if detached and chosen:
        raise UsageError("--detach and --attach exclude each other")
    if args.flag("interactive"):
        default: tuple[str, ...] = ("stdin", "stdout", "stderr")
    else:
        default = ("stdout", "stderr")
    attach = () if detached else chosen or default
    request = translate(args)._replace(attach=attach)
    if request.terminal and "stdin" in attach and request.interactive and not sys.stdin.isatty():
        raise UsageError("-t needs a terminal on stdin", hint="leave -t out when stdin is a pipe or a file")
    keys = streams.keys(args.text("detach_keys"))
    ids: list[str] = []

    def created(id: str) -> None:
        ids.append(id)
        id_file.write(id)
        if attach == ("stdin",):
            # Else nobody would learn whose log it is.
            print(id, flush=True)

    from buildkit_py.cli.session import Session

    # A display that has nothing to show costs nothing; it is there for a pull.
    progress = "quiet" if args.flag("quiet") else "auto"
    with IdFile(args.text("cidfile")) as id_file, Session(progress) as session:
        show = session.display

        def warn(text: str) -> None:
            show.close()
            from buildkit_py.cli import report

            report.warn(text)

        client = Client(
            attach=attach,
            detach=keys,
            proxy=args.flag("sig_proxy"),
            created=created,
            warn=warn,
            starting=show.close,
        )
        status = session.engine.run(request, session.display, client)
    if detached:
        print(ids[0])
    elif status is None:
        os.write(2, b"\r\n")
    return status or 0


COMMAND = Command(
    "run",
    "Run a command in a new container.\n\nThe command's exit status is passed on; 125 says that pybuild "
    "itself failed, 126 that the command can't be run, 127 that it isn't there.",
    tuple(
        sorted(
            (*OPTIONS, *streams.OPTIONS, flag("-d", "--detach", help="Leave it running, and print its id")),
            key=lambda option: option.flags[-1],
        )
    )
    + ARGUMENTS,
    run,
    interspersed=False,
    error_status=125,
    examples=(
        "pybuild run --rm -it debian:12 bash",
        "pybuild run --rm -v .:/work -w /work python:3.12 python x.py",
        "pybuild run -d --name web -p 8080:80 nginx",
    ),
)
