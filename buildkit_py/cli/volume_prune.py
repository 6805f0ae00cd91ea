"""``pybuild volume prune``"""

from __future__ import annotations

from functools import partial

from buildkit_py.cli import listing, sizes
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.cli.prune import confirmed
from buildkit_py.errors import PybuildError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.containers import users
    from buildkit_py.snapshot.usage import measure

    wanted = listing.filters(args.texts("filters"), ("all", "label", "label!"))
    everything = args.flag("all") or any(text in ("true", "1") for text in wanted["all"])
    what = "volumes that no container has" if everything else "anonymous volumes that no container has"
    if not args.flag("force") and not confirmed([what]):
        return 1
    engine = Engine()
    removed, freed = [], 0
    try:
        engine.begin(supervisors=0)
        engine.enter()
        for volume in engine.volumes.list():
            if not (everything or volume.anonymous) or not listing.labelled(volume.labels, wanted["label"]):
                continue
            if wanted["label!"] and listing.labelled(volume.labels, wanted["label!"]):
                continue
            if users(engine, volume.name):
                continue
            size = 0 if "device" in volume.options else measure(volume.path)[0]
            try:
                engine.volumes.remove(volume.name, partial(users, engine, volume.name))
            except PybuildError:
                # Taken, or removed, meanwhile.
                continue
            removed.append(volume.name)
            freed += size
        freed += engine.volumes.collect_trash()
    finally:
        engine.close()
    if removed:
        print("Deleted Volumes:", *removed, "", sep="\n")
    print("Total reclaimed space:", sizes.size(freed))
    return 0


COMMAND = Command(
    "volume prune",
    "Remove anonymous volumes that no container has.",
    (
        flag("-a", "--all", help="Those with names, too"),
        option("--filter", name="filters", multiple=True, metavar="NAME=VALUE", help="all=, label=, label!="),
        flag("-f", "--force", help="Don't ask"),
    ),
    run,
)
