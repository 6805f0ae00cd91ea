"""``pybuild save``"""

from __future__ import annotations

import sys

from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.errors import UsageError

FORMATS = ("docker", "oci")


def run(args: Args) -> int:
    path = args.text("output")
    if path in ("", "-") and sys.stdout.isatty():
        raise UsageError("an archive is not written to a terminal", hint="use -o FILE, or redirect stdout")
    from buildkit_py.cli.session import Session

    with Session("quiet") as session:
        session.engine.save(args.texts("images"), path or "-", args.text("format"))
    return 0


COMMAND = Command(
    "save",
    "Write images to a tar archive.",
    (
        option("-o", "--output", metavar="FILE", help="Where to (default: stdout)"),
        option("--format", choices=FORMATS, default="docker", help="The archive's layout"),
        Argument("images", metavar="IMAGE...", many=True),
    ),
    run,
    examples=("pybuild save -o app.tar app:1", "pybuild save app:1 | ssh host docker load"),
)
