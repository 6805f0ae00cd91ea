"""``pybuild cache prune``"""

from __future__ import annotations

from buildkit_py.cli import report, sizes, values
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.cli.prune import confirmed, show_space
from buildkit_py.errors import UsageError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.cache.eviction import Rule
    from buildkit_py.engine.prune import Pruned


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.prune import PruneRequest

    engine = Engine()
    try:
        asked = rule(args, engine.disk)
        dry_run = args.flag("dry_run")
        if not args.flag("force") and not dry_run and not confirmed([told(asked)]):
            return 1
        show(engine.prune(PruneRequest(rules=(asked,), dry_run=dry_run)), dry_run=dry_run)
    finally:
        engine.close()
    return 0


def rule(args: Args, disk: int) -> Rule:
    """What the options ask for. ``disk``: bytes of the store's file system. Raises UsageError."""
    from buildkit_py.cache.policy import amount

    def space(name: str) -> int:
        return amount(args.text(name), disk, "--" + name.replace("_", "-"))

    return filtered(args.texts("filters"))._replace(
        all=args.flag("all"),
        reserved_space=max(space("reserved_space"), space("keep_storage")),
        max_used_space=space("max_used_space"),
        min_free_space=space("min_free_space"),
    )


def filtered(filters: tuple[str, ...]) -> Rule:
    """Filters of one name mean any of them; those of several names all. Raises UsageError."""
    from buildkit_py.cache.eviction import KINDS, Rule

    found = Rule()
    for name, value in values.pairs(filters, "--filter", value_needed=True):
        value = value.removeprefix("=")
        if name in ("until", "unused-for"):
            found = found._replace(keep_duration=values.seconds(value, "--filter"))
        elif name == "id" and value:
            found = found._replace(ids=(*found.ids, value))
        elif name == "type" and value in KINDS:
            found = found._replace(kinds=(*found.kinds, value))
        elif name == "type":
            raise UsageError(f"--filter: there is no type '{value}'", hint="one of " + ", ".join(KINDS))
        else:
            raise UsageError(f"--filter: unknown filter '{name}'", hint="until=24h, unused-for=, type=, id=")
    return found


def told(rule: Rule) -> str:
    """What goes, for the question."""
    words = ["what of the build cache"]
    if rule.kinds:
        words.append("is " + " or ".join(rule.kinds))
    if rule.ids:
        words.append("has an id that begins with " + " or ".join(rule.ids))
    if rule.keep_duration:
        words.append(f"was not used for {rule.keep_duration:g} seconds")
    if not rule.all:
        words.append("no image and no container stands on")
    limited = rule.reserved_space or rule.max_used_space or rule.min_free_space
    tail = ", as far as the limits ask for it" if limited else ""
    return words[0] + " " + " and ".join(words[1:] or ["there is"]) + tail


def show(pruned: Pruned, *, dry_run: bool) -> None:
    rows = [(sizes.short(i.id), i.kind, sizes.size(i.size), sizes.age(i.used), i.name) for i in pruned.items]
    if rows:
        report.table([["ID", "TYPE", "SIZE", "LAST USED", "STEP"], *map(list, rows)])
    show_space(pruned, dry_run=dry_run)


COMMAND = Command(
    "cache prune",
    "Remove things from the build cache: results of steps, cache mounts, what is remembered of contexts, "
    "repositories and URLs. What an image or a container stands on stays, unless --all is given.",
    (
        flag("-a", "--all", help="Also forget the steps that images and containers stand on"),
        flag("-f", "--force", help="Don't ask"),
        option(
            "--filter",
            name="filters",
            multiple=True,
            metavar="NAME=VALUE",
            help="until=24h, unused-for=24h, type=, id=",
        ),
        option("--keep-storage", metavar="SIZE", help="Docker's older name of --reserved-space"),
        option("--reserved-space", metavar="SIZE", help="Keep so much in any case"),
        option("--max-used-space", metavar="SIZE", help="Let the cache take so much at most: 10GB, 20%"),
        option("--min-free-space", metavar="SIZE", help="Have so much of the disk free then"),
        flag("--dry-run", help="Only say what would go"),
    ),
    run,
    examples=(
        "pybuild cache prune --filter unused-for=7d",
        "pybuild cache prune -f --max-used-space 20GB --reserved-space 5GB",
    ),
)
