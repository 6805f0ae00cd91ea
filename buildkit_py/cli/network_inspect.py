"""``pybuild network inspect``"""

from __future__ import annotations

import json

from buildkit_py.cli import report, template
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.errors import NotFoundError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, networks

    engine = Engine()
    found = []
    status = 0
    try:
        members = networks.members(engine)
        for name in args.texts("names"):
            try:
                network = engine.networks.bridge() if name == "bridge" else engine.networks.get(name)
            except NotFoundError as e:
                status = report.show(e)
                continue
            found.append(networks.document(network, members.get(network.id, ())))
    finally:
        engine.close()
    form = args.text("format")
    if form in ("", "json"):
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for document in found:
            print(template.render(form, document))
    return status


COMMAND = Command(
    "network inspect",
    "Show the details of networks, and who is on them, as JSON.",
    (
        option("-f", "--format", metavar="FORMAT", help="A template like '{{json .Containers}}'"),
        Argument("names", metavar="NETWORK...", many=True),
    ),
    run,
)
