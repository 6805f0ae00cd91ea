"""``pybuild volume create``"""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    if args.text("driver") != "local":
        raise UsageError(f"--driver: there is no '{args.text('driver')}'", hint="local is the only one")
    engine = Engine()
    try:
        volume = engine.volumes.create(
            args.text("volume") or args.text("name"),
            labels=values.pairs(args.texts("labels"), "--label"),
            options=values.pairs(args.texts("opt"), "--opt", value_needed=True),
        )
    finally:
        engine.close()
    print(volume.name)
    return 0


COMMAND = Command(
    "volume create",
    "Make a volume.",
    (
        option(
            "-d", "--driver", metavar="NAME", default="local", help="Docker's option; local is the only one"
        ),
        option("--label", name="labels", multiple=True, metavar="KEY=VALUE", help="Set a label"),
        option("--name", metavar="NAME", help="Docker's old option", hidden=True),
        option("-o", "--opt", multiple=True, metavar="KEY=VALUE", help="type=none, o=bind, device=DIRECTORY"),
        Argument("volume", metavar="[NAME]", required=False),
    ),
    run,
    examples=("pybuild volume create data", "pybuild run -v data:/var/lib/app app"),
)
