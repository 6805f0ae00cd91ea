"""``pybuild start``"""

from __future__ import annotations

import os

from buildkit_py.cli import streams
from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.cli.each import each
from buildkit_py.engine.client import Client
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    from buildkit_py.cli import report
    from buildkit_py.engine import Engine, containers

    names = args.texts("containers")
    attached = args.flag("attach") or args.flag("interactive")
    if attached and len(names) > 1:
        raise UsageError("only one container can be attached to")
    engine = Engine()
    try:
        engine.begin_starting(names)
        if not attached:
            return each(
                engine, names, lambda c: _started(containers.start(engine, c, Client(warn=report.warn)))
            )
        chosen = ("stdin", "stdout", "stderr") if args.flag("interactive") else ("stdout", "stderr")
        keys = streams.keys(args.text("detach_keys"))
        client = Client(chosen, keys, args.flag("sig_proxy"), warn=report.warn)
        status = containers.start(engine, engine.containers.get(names[0]), client)
    finally:
        engine.close()
    if status is None:
        os.write(2, b"\r\n")
    return status or 0


def _started(_: int | None) -> None:
    """Its name is printed, not a status."""


COMMAND = Command(
    "start",
    "Start containers that were created, or have ended.",
    (
        flag("-a", "--attach", help="Show its output and pass signals on; its exit status is passed on"),
        streams.DETACH_KEYS,
        flag("-i", "--interactive", help="The same, and pass stdin on"),
        streams.SIG_PROXY,
        Argument("containers", metavar="CONTAINER...", many=True),
    ),
    run,
)
