"""What a container may use of the machine, as it is typed."""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, option
from buildkit_py.request import Limits


def translate(args: Args) -> Limits:
    """Raises UsageError for values of a wrong form."""
    return Limits(shm_size=values.size(args.text("shm_size"), "--shm-size"))


OPTIONS = (option("--shm-size", metavar="BYTES", help="Size of /dev/shm"),)
