"""``pybuild image prune``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Command, flag
from buildkit_py.cli.prune import FILTERS, perform, selected


def run(args: Args) -> int:
    everything = args.flag("all")
    what = "images that no container uses" if everything else "images without a name"
    request = selected(args)._replace(images=True, all_images=everything, dry_run=args.flag("dry_run"))
    return perform(request, [what], force=args.flag("force"))


COMMAND = Command(
    "image prune",
    "Remove images without a name that no container uses.",
    (
        flag("-a", "--all", help="Those with names, too"),
        FILTERS,
        flag("-f", "--force", help="Don't ask"),
        flag("--dry-run", help="Only say what would go"),
    ),
    run,
)
