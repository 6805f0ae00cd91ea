"""``pybuild container prune``"""

from __future__ import annotations

import time

from buildkit_py.cli import listing, sizes, values
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.cli.prune import confirmed
from buildkit_py.errors import PybuildError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, containers
    from buildkit_py.runtime import description
    from buildkit_py.snapshot.usage import measure

    wanted = listing.filters(args.texts("filters"), ("until", "label", "label!"))
    limit = min((values.moment(text, "--filter until") for text in wanted["until"]), default=time.time())
    if not args.flag("force") and not confirmed(["containers that don't run"]):
        return 1
    engine = Engine()
    freed, removed = 0, []
    try:
        engine.begin(supervisors=0)
        for container in engine.containers.list():
            if container.alive() or container.created > limit:
                continue
            labels = description.labels(container.config())
            if not listing.labelled(labels, wanted["label"]):
                continue
            if wanted["label!"] and listing.labelled(labels, wanted["label!"]):
                continue
            engine.enter()
            size, _ = measure(container.part("fs"))
            try:
                containers.remove(engine, container)
            except PybuildError:
                # Started, or removed, meanwhile.
                continue
            removed.append(container.id)
            freed += size
        freed += engine.containers.collect_trash()
    finally:
        engine.close()
    if removed:
        print("Deleted Containers:", *removed, "", sep="\n")
    print("Total reclaimed space:", sizes.size(freed))
    return 0


COMMAND = Command(
    "container prune",
    "Remove all containers that don't run.",
    (
        option(
            "--filter", name="filters", multiple=True, metavar="NAME=VALUE", help="until=, label=, label!="
        ),
        flag("-f", "--force", help="Don't ask"),
    ),
    run,
)
