"""``pybuild network prune``"""

from __future__ import annotations

import time

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.cli.network_ls import labelled, parse_filters
from buildkit_py.cli.prune import confirmed


def run(args: Args) -> int:
    filters = parse_filters(args.texts("filters"), ("label", "label!", "until"))
    ages = [values.seconds(text, "--filter until") for text in filters.get("until", ())]
    if not args.flag("force") and not confirmed(["networks that no running container is on"]):
        return 1
    from buildkit_py.engine import Engine, networks

    engine = Engine()
    try:
        names = [
            n.name
            for n in networks.unused(engine)
            if all(labelled(n.labels, text) for text in filters.get("label", ()))
            and not any(labelled(n.labels, text) for text in filters.get("label!", ()))
            and all(n.created < time.time() - age for age in ages)
        ]
        removed, _ = networks.remove_all(engine, names)
    finally:
        engine.close()
    if removed:
        print("Deleted Networks:", *(network.name for network in removed), sep="\n")
    return 0


COMMAND = Command(
    "network prune",
    "Remove all networks that no running container is on.",
    (
        option(
            "--filter", name="filters", multiple=True, metavar="KEY=VALUE", help="By label, label! and until"
        ),
        flag("-f", "--force", help="Don't ask"),
    ),
    run,
)
