"""``pybuild network connect``"""

from __future__ import annotations

import sys

from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.cli.networking import address, mac_address
from buildkit_py.request import NetworkSpec


def run(args: Args) -> int:
    ip, mac = args.text("ip"), args.text("mac_address")
    from buildkit_py.engine import Engine, networks
    from buildkit_py.engine.networking import network_of

    engine = Engine()
    try:
        network = network_of(engine, args.text("network"))
        spec = NetworkSpec(
            network.name,
            args.texts("alias"),
            address(ip, "--ip") if ip else "",
            mac_address(mac, "--mac-address") if mac else "",
        )
        for text in networks.connect(engine, network, args.text("container"), spec):
            print("WARNING:", text, file=sys.stderr)
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "network connect",
    "Put a container on a network.\n\nA running container gets a further device at once; one that doesn't "
    "run is on the network from its next start on.",
    (
        option("--alias", multiple=True, metavar="NAME", help="A further name of the container there"),
        option("--ip", metavar="ADDRESS", help="Its address"),
        option("--mac-address", metavar="ADDRESS", help="Its hardware address"),
        Argument("network", metavar="NETWORK"),
        Argument("container", metavar="CONTAINER"),
    ),
    run,
)
