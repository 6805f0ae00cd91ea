"""``pybuild version``"""

from __future__ import annotations

import os
import sys

from buildkit_py import __version__, paths
from buildkit_py.cli import template
from buildkit_py.cli.command import Args, Command, option


def run(args: Args) -> int:
    system = os.uname()
    document = {
        "Version": __version__,
        "Python": ".".join(map(str, sys.version_info[:3])),
        "Kernel": system.release,
        "Os": "linux",
        "Arch": system.machine,
        "Store": paths.data_root(),
    }
    form = args.text("format")
    if form:
        print(template.render("{{json .}}" if form == "json" else form, document))
    else:
        for name, value in document.items():
            print(f"{name + ':':9}{value}")
    return 0


COMMAND = Command(
    "version",
    "Show the versions of pybuild, Python and the kernel, and where the store is.",
    (option("-f", "--format", metavar="FORMAT", help="json, or a template like '{{.Version}}'"),),
    run,
)
