"""``pybuild logout``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.cli.login import HUB, address


def run(args: Args) -> int:
    from buildkit_py.cli.report import warn
    from buildkit_py.registry import login
    from buildkit_py.registry.credentials import Credentials

    registry = address(args.text("server"))
    print(f"Logged out of {registry}" if login.erase(registry) else f"Not logged in to {registry}")
    if Credentials().of(registry) is not None:
        warn(f"another file still has credentials for {registry}")
    return 0


COMMAND = Command(
    "logout",
    "Forget the username and password for a registry, by default Docker Hub.",
    (Argument("server", metavar="[HOST[:PORT]]", required=False, default=HUB),),
    run,
)
