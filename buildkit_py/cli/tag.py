"""``pybuild tag``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        image = engine.images.find(args.text("source"))
        engine.images.tag(args.text("target"), image.id)
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "tag",
    "Give an image another name.",
    (Argument("source", metavar="IMAGE"), Argument("target", metavar="NAME[:TAG]")),
    run,
)
