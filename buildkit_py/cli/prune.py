"""``pybuild prune``, and what its relatives share: asking first, and saying what went."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from buildkit_py.cli import sizes
from buildkit_py.cli.command import Args, Command, flag
from buildkit_py.errors import UsageError

if TYPE_CHECKING:
    from buildkit_py.engine.prune import Pruned, PruneRequest


def run(args: Args) -> int:
    from buildkit_py.cache.eviction import Rule
    from buildkit_py.engine.prune import PruneRequest

    everything = args.flag("all")
    what = ["containers that have ended", "images without a name"]
    if everything:
        what[1] = "images that no container uses"
        what.append("the whole build cache")
    request = PruneRequest(
        containers=True,
        images=True,
        all_images=everything,
        rules=(Rule(all=True),) if everything else (),
        dry_run=args.flag("dry_run"),
    )
    return perform(request, what, force=args.flag("force"))


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
    """Ask on the terminal. Raises UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(
            "prune asks before it removes, and stdin is no terminal", hint="use -f to prune without asking"
        )
    print("This removes:", *(f"  - {line}" for line in what), sep="\n", file=sys.stderr)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show(pruned: Pruned, *, dry_run: bool) -> None:
    verb = "Would remove" if dry_run else "Removed"
    for title, names in (
        ("containers", pruned.containers),
        ("images", pruned.images),
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
        flag("-f", "--force", help="Don't ask"),
        flag("--dry-run", help="Only say what would go"),
    ),
    run,
)
