"""``pybuild network create``"""

from __future__ import annotations

import re

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Argument, Command, flag, flag_on, option
from buildkit_py.errors import UsageError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def run(args: Args) -> int:
    name = args.text("name")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' can't be a network's name", hint="letters, digits, and - _ . after the first one"
        )
    if args.text("driver") not in ("", "bridge"):
        raise UsageError(f"--driver: '{args.text('driver')}' is not known", hint="bridge is")
    if args.flag("ipv6"):
        raise UsageError("--ipv6: networks have IPv4 addresses only")
    if args.text("scope") not in ("", "local") or args.text("ipam_driver") not in ("", "default"):
        raise UsageError("--scope is local, and --ipam-driver is default")
    if args.flag("ipv4") is False or len(args.texts("subnet")) > 1:
        raise UsageError("a network has one IPv4 subnet")
    labels = values.pairs(args.texts("labels"), "--label")
    from buildkit_py.engine import Engine, networks

    engine = Engine()
    try:
        network = networks.create(
            engine,
            name,
            subnet="".join(args.texts("subnet")),
            gateway=args.text("gateway"),
            ip_range=args.text("ip_range"),
            internal=args.flag("internal"),
            labels=dict(labels),
            options=dict(values.pairs(args.texts("opt"), "--opt")),
        )
    finally:
        engine.close()
    print(network.id)
    return 0


COMMAND = Command(
    "network create",
    "Make a network, on which containers find each other by name.",
    (
        flag("--attachable", help="Docker's option: they are", hidden=True),
        option("-d", "--driver", metavar="DRIVER", help="Docker's option: bridge alone is known"),
        option("--gateway", metavar="ADDRESS", help="The network's own address; by default its first"),
        flag("--internal", help="Without a way out"),
        option("--ip-range", metavar="CIDR", help="The part of the subnet that containers are given"),
        option("--ipam-driver", metavar="NAME", help="Docker's option: default alone is known", hidden=True),
        flag_on("--ipv4", help="Docker's option: they have", hidden=True),
        flag("--ipv6", help="Refused: networks have IPv4 addresses only", hidden=True),
        option("--label", name="labels", multiple=True, metavar="KEY=VALUE", help="Set a label"),
        option(
            "-o",
            "--opt",
            multiple=True,
            metavar="KEY=VALUE",
            help="com.docker.network.driver.mtu=NUMBER, the size of its largest packets",
        ),
        option("--scope", metavar="SCOPE", help="Docker's option: local alone is known", hidden=True),
        option(
            "--subnet",
            multiple=True,
            metavar="CIDR",
            help="Its addresses, as 10.90.0.0/24; by default free ones",
        ),
        Argument("name", metavar="NAME"),
    ),
    run,
    examples=("pybuild network create --subnet 10.90.0.0/24 shop",),
)
