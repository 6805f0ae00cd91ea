"""How far a container is kept apart from the machine, as it is typed."""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, flag, option
from buildkit_py.request import Isolation


def translate(args: Args) -> Isolation:
    """Raises UsageError for values of a wrong form."""
    return Isolation(readonly=args.flag("read_only"), ulimits=values.ulimits(args.texts("ulimits")))


OPTIONS = (
    flag("--read-only", help="Mount the root file system read-only"),
    option(
        "--ulimit", name="ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="Limit of the command"
    ),
)
