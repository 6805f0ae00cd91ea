"""``pybuild network disconnect``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.errors import PybuildError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, networks
    from buildkit_py.engine.networking import network_of

    engine = Engine()
    try:
        network = network_of(engine, args.text("network"))
        networks.disconnect(engine, network, args.text("container"))
    except PybuildError:
        if not args.flag("force"):
            raise
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "network disconnect",
    "Take a container off a network.",
    (
        flag("-f", "--force", help="Never mind a container that is not on it"),
        Argument("network", metavar="NETWORK"),
        Argument("container", metavar="CONTAINER"),
    ),
    run,
)
