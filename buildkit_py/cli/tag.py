"""``pybuild tag``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        engine.images.retag(args.text("source"), args.text("target"))
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "tag",
    "Give an image another name.",
    (Argument("source", metavar="IMAGE"), Argument("target", metavar="NAME[:TAG]")),
    run,
)
