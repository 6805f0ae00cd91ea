"""``pybuild cache ls``"""

from __future__ import annotations

import time

from buildkit_py.cli import listing, sizes
from buildkit_py.cli.cache_prune import filtered
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.cache.eviction import Item


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    asked = filtered(args.texts("filters"))._replace(all=True)
    engine = Engine()
    try:
        now = time.time()
        items = [item for item in engine.inventory().items if asked.fits(item, now)]
    finally:
        engine.close()
    rows = [fields(item, args.flag("no_trunc")) for item in items]
    form = args.text("format")
    if args.flag("quiet"):
        for row in rows:
            print(row["ID"])
    else:
        if form in ("", "table") and not args.flag("no_trunc"):
            rows = [row | {"Images": few(item.images)} for row, item in zip(rows, items, strict=True)]
        listing.show(rows, HEADINGS, form, COLUMNS)
    return 0


def fields(item: Item, whole: bool) -> dict[str, str]:
    return {
        "ID": sizes.short(item.id, whole),
        "Type": item.kind,
        "Size": sizes.size(item.size),
        "Bytes": str(item.size),
        "Snapshot": sizes.short(item.snapshot, whole),
        "CreatedAt": sizes.timestamp(item.created),
        "CreatedSince": sizes.age(item.created),
        "LastUsedAt": sizes.timestamp(item.used),
        "LastUsedSince": sizes.age(item.used),
        "UsageCount": str(item.uses),
        "Images": ", ".join(shown(name) for name in item.images),
        "Shared": "true" if item.shared else "false",
        "Description": item.name,
    }


def shown(image: str) -> str:
    """An image's name as people write it; of one without a name the beginning of its id."""
    return sizes.short(image) if image.startswith("sha256:") else image.removeprefix("docker.io/library/")


def few(images: tuple[str, ...]) -> str:
    """So many as a column holds: names rather than ids, and how many more there are."""
    names = [shown(image) for image in sorted(images, key=lambda image: image.startswith("sha256:"))]
    more = len(names) - MOST_IMAGES
    return ", ".join(names[:MOST_IMAGES]) + (f" +{more}" if more > 0 else "")


MOST_IMAGES = 2
COLUMNS = ("ID", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Images", "Description")
HEADINGS = {
    "ID": "ID",
    "Type": "TYPE",
    "Size": "SIZE",
    "Bytes": "BYTES",
    "Snapshot": "SNAPSHOT",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "LastUsedAt": "LAST USED AT",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USES",
    "Images": "IMAGES",
    "Shared": "SHARED",
    "Description": "STEP",
}

COMMAND = Command(
    "cache ls",
    "List what is in the build cache: steps by their last use, then cache mounts and sources.",
    (
        option(
            "-f",
            "--filter",
            name="filters",
            multiple=True,
            metavar="NAME=VALUE",
            help="type=, id=, unused-for=24h",
        ),
        option(
            "--format", metavar="FORMAT", help="table, json, or a template like '{{.ID}} {{.Description}}'"
        ),
        flag("--no-trunc", help="Show whole ids"),
        flag("-q", "--quiet", help="Show ids only"),
    ),
    run,
)
