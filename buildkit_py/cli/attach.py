"""``pybuild attach``"""

from __future__ import annotations

import os

from buildkit_py.cli import streams
from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.engine.client import Client


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, containers

    names = ("stdout", "stderr") if args.flag("no_stdin") else ("stdin", "stdout", "stderr")
    client = Client(names, streams.keys(args.text("detach_keys")), args.flag("sig_proxy"))
    engine = Engine()
    try:
        status = containers.attach(engine.containers.get(args.text("container")), client)
    finally:
        engine.close()
    if status is None:
        os.write(2, b"\r\n")
    return status or 0


COMMAND = Command(
    "attach",
    "Connect to a container that runs: its output, and its input where it has one (-i).",
    (
        streams.DETACH_KEYS,
        flag("--no-stdin", help="Pass nothing on from stdin"),
        streams.SIG_PROXY,
        Argument("container", metavar="CONTAINER"),
    ),
    run,
)
