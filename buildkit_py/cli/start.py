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

    names = _names(args)
    attached = args.flag("attach") or args.flag("interactive")
    if attached and len(names) > 1:
        raise UsageError("only one container can be attached to")
    engine = Engine()
    try:
        if args.flag("after_boot"):
            names = containers.due(engine)
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


def _names(args: Args) -> tuple[str, ...]:
    names = args.texts("containers")
    if not args.flag("after_boot"):
        if not names:
            raise UsageError("name a container to start", hint="`pybuild ps -a` lists what is here")
    elif names or args.flag("attach") or args.flag("interactive"):
        raise UsageError("--after-boot chooses the containers by itself, and attaches to none")
    return names


def _started(_: int | None) -> None:
    """Its name is printed, not a status."""


COMMAND = Command(
    "start",
    "Start containers that were created, or have ended.",
    (
        flag(
            "--after-boot",
            help="Those that --restart always and unless-stopped have run when the machine does",
        ),
        flag("-a", "--attach", help="Show its output and pass signals on; its exit status is passed on"),
        streams.DETACH_KEYS,
        flag("-i", "--interactive", help="The same, and pass stdin on"),
        streams.SIG_PROXY,
        Argument("containers", metavar="[CONTAINER...]", required=False, many=True),
    ),
    run,
)
