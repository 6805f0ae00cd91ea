"""``pybuild cache prune``"""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.cli.prune import perform
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    from buildkit_py.engine.prune import PruneRequest

    seconds = unused_for(args.texts("filters"))
    what = "the whole build cache" if not seconds else f"cache records not used for {seconds:g} seconds"
    request = PruneRequest(cache=True, unused_for=seconds, dry_run=args.flag("dry_run"))
    return perform(request, [what], force=args.flag("force"))


def unused_for(filters: tuple[str, ...]) -> float:
    """``unused-for=24h``, or docker's older name for it, ``until=24h``."""
    result = 0.0
    for name, value in values.pairs(filters, "--filter", value_needed=True):
        if name not in ("unused-for", "until"):
            raise UsageError(f"--filter: unknown filter '{name}'", hint="unused-for=24h")
        result = values.seconds(value, "--filter")
    return result


COMMAND = Command(
    "cache prune",
    "Remove records of the build cache, and the snapshots and cache mounts that nothing else needs.",
    (
        flag("-a", "--all", help="Docker's option; all of the cache is meant anyway"),
        flag("-f", "--force", help="Don't ask"),
        option("--filter", name="filters", multiple=True, metavar="NAME=VALUE", help="unused-for=24h"),
        flag("--dry-run", help="Only say what would go"),
    ),
    run,
)
