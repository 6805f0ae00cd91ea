"""A container's network, as it is typed."""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, option
from buildkit_py.request import Networking


def translate(args: Args) -> Networking:
    """Raises UsageError for values of a wrong form."""
    return Networking(
        mode=args.text("network"),
        hostname=args.text("hostname"),
        extra_hosts=values.hosts(args.texts("add_hosts")),
    )


OPTIONS = (
    option("--add-host", name="add_hosts", multiple=True, metavar="NAME:IP", help="Add a line to /etc/hosts"),
    option("-h", "--hostname", metavar="NAME", help="The container's host name"),
    option("--network", metavar="MODE", help="Network: private, host or none"),
)
