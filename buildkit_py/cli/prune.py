"""``pybuild prune``, and what its relatives share: asking first, and saying what went."""

from __future__ import annotations

import sys

from buildkit_py.cli import listing, sizes, values
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine.prune import Pruned, PruneRequest


FILTERS = option(
    "--filter", name="filters", multiple=True, metavar="NAME=VALUE", help="until=, label= or label!="
)


def run(args: Args) -> int:
    from buildkit_py.cache.eviction import Rule

    everything = args.flag("all")
    what = ["containers that have ended", "images without a name"]
    if everything:
        what[1] = "images that no container uses"
        what.append("the whole build cache")
    if args.flag("volumes"):
        what.append("anonymous volumes that no container has")
    request = selected(args)._replace(
        containers=True,
        images=True,
        all_images=everything,
        rules=(Rule(all=True),) if everything and not args.texts("filters") else (),
        volumes=args.flag("volumes"),
        dry_run=args.flag("dry_run"),
    )
    return perform(request, what, force=args.flag("force"))


def selected(args: Args) -> PruneRequest:
    """What ``--filter`` says. Raises UsageError."""
    from buildkit_py.engine.prune import PruneRequest

    wanted = listing.filters(args.texts("filters"), ("until", "label", "label!"))
    return PruneRequest(
        until=min((values.moment(text, "--filter until") for text in wanted["until"]), default=0.0),
        labels=tuple(wanted["label"]),
        not_labels=tuple(wanted["label!"]),
    )


def perform(request: PruneRequest, what: list[str], *, force: bool) -> int:
    """Ask (unless ``force`` or a dry run), prune, and say what went."""
    if not force and not request.dry_run and not confirmed(what):
        return 1
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        show(engine.prune(request), dry_run=request.dry_run)
    finally:
        engine.close()
    return 0


def confirmed(what: list[str]) -> bool:
    """Ask, on the terminal or whoever is piped in (``yes |``). Raises UsageError where nobody answers."""
    print("This removes:", *(f"  - {line}" for line in what), sep="\n", file=sys.stderr)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer:
        print(file=sys.stderr)
        raise UsageError(
            "prune asks before it removes, and got no answer", hint="use -f to prune without asking"
        )
    return answer.strip().lower() in ("y", "yes")


def show(pruned: Pruned, *, dry_run: bool) -> None:
    verb = "Would remove" if dry_run else "Removed"
    for title, names in (
        ("containers", pruned.containers),
        ("images", pruned.images),
        ("volumes", pruned.volumes),
        ("from the cache", tuple(item.name for item in pruned.items)),
    ):
        if names:
            print(f"{verb} {title}:", *names, "", sep="\n")
    show_space(pruned, dry_run=dry_run)


def show_space(pruned: Pruned, *, dry_run: bool) -> None:
    if pruned.left:
        print(
            "Other commands use the store: images, cache mounts and sources were left alone", file=sys.stderr
        )
    print("Would reclaim:" if dry_run else "Total reclaimed space:", sizes.size(pruned.freed))


COMMAND = Command(
    "prune",
    "Remove what is no longer needed: containers that have ended, images without a name, and whatever of the "
    "store nothing else needs.",
    (
        flag("-a", "--all", help="Every image that no container uses, and the whole build cache too"),
        FILTERS,
        flag("-f", "--force", help="Don't ask"),
        flag("--dry-run", help="Only say what would go"),
        flag("--volumes", help="Anonymous volumes that no container has, too"),
    ),
    run,
)
