"""``pybuild cache du``"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from buildkit_py.cli import cache_ls, report, sizes, template
from buildkit_py.cli.command import Args, Command, flag, option

if TYPE_CHECKING:
    from buildkit_py.digest import Digest
    from buildkit_py.engine.inventory import Inventory

Row = dict[str, str]
HEADINGS = {
    "type": {"Type": "TYPE", "Count": "COUNT", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"},
    "image": {"Image": "IMAGE", "Size": "SIZE", "Shared": "SHARED", "Own": "OWN"},
    "item": {
        "ID": "ID",
        "Type": "TYPE",
        "Size": "SIZE",
        "Shared": "SHARED",
        "CreatedSince": "CREATED",
        "Description": "STEP",
    },
}


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        found = engine.inventory()
        blobs = {digest: engine.content.size(digest) for digest in engine.content.digests()}
    finally:
        engine.close()
    view = "item" if args.flag("verbose") else args.text("by") or "type"
    if view == "item":
        rows = [cache_ls.fields(item, args.flag("no_trunc")) for item in found.items]
    elif view == "image":
        rows = by_image(found)
    else:
        rows = by_type(found, blobs)
    form = args.text("format")
    if form not in ("", "table"):
        for row in rows:
            print(template.render("{{json .}}" if form == "json" else form, row))
        return 0
    columns = HEADINGS[view]
    report.table([list(columns.values()), *([row[c] for c in columns] for row in rows)])
    print()
    print("Reclaimable:", sizes.size(sum(reclaimable(found).values())))
    print("Total:", sizes.size(total(found, blobs)))
    return 0


def by_type(found: Inventory, blobs: Mapping[Digest, int]) -> list[Row]:
    rows = []
    free = reclaimable(found)
    for kind in sorted({item.kind for item in found.items}):
        items = [item for item in found.items if item.kind == kind]
        rows.append(_row(kind, len(items), _distinct(found, kind), free[kind]))
    layers = {found.layout.layers[s] for s in found.layout.pinned if s in found.layout.layers}
    rows.append(_row("images", len(found.images), sum(found.layout.sizes[layer] for layer in layers), 0))
    files = {item.id for item in found.items if item.kind == "source.http"}
    others = [size for digest, size in blobs.items() if digest not in files]
    rows.append(_row("blobs", len(others), sum(others), 0))
    return rows


def _row(kind: str, count: int, size: int, free: int) -> Row:
    return {
        "Type": kind,
        "Count": str(count),
        "Size": sizes.size(size),
        "Bytes": str(size),
        "Reclaimable": sizes.size(free),
    }


def _distinct(found: Inventory, kind: str) -> int:
    """The bytes of one kind: a layer that several steps have counts once."""
    items = [item for item in found.items if item.kind == kind]
    layers = {found.layout.layers.get(item.snapshot, "") for item in items if item.snapshot}
    return sum(found.layout.sizes.get(layer, 0) for layer in layers) + sum(
        item.size for item in items if not item.snapshot
    )


def reclaimable(found: Inventory) -> dict[str, int]:
    """Kind -> the bytes that a prune of the whole cache would free of it."""
    from buildkit_py.cache.eviction import Space

    space = Space(found.items, found.layout)
    free: dict[str, int] = {item.kind: 0 for item in found.items}
    for item in found.items:
        free[item.kind] += space.drop(item)
    return free


def by_image(found: Inventory) -> list[Row]:
    layers = {
        name: {found.layout.layers[s] for s in snapshots if s in found.layout.layers}
        for name, snapshots in found.images.items()
    }
    rows = []
    for name, mine in sorted(layers.items()):
        others: set[str] = set().union(*(other for image, other in layers.items() if image != name))
        own = sum(found.layout.sizes[layer] for layer in mine - others)
        shared = sum(found.layout.sizes[layer] for layer in mine & others)
        rows.append(
            {
                "Image": cache_ls.shown(name),
                "Size": sizes.size(own + shared),
                "Bytes": str(own + shared),
                "Shared": sizes.size(shared),
                "Own": sizes.size(own),
            }
        )
    return rows


def total(found: Inventory, blobs: Mapping[Digest, int]) -> int:
    others = sum(item.size for item in found.items if not item.snapshot and item.kind != "source.http")
    return sum(found.layout.sizes.values()) + others + sum(blobs.values())


COMMAND = Command(
    "cache du",
    "Show what the store takes on disk: by kind, by image, or thing by thing.",
    (
        option("--by", metavar="KIND", choices=("type", "image"), default="type", help="type or image"),
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.Type}} {{.Size}}'"),
        flag("--no-trunc", help="Show whole ids"),
        flag("-v", "--verbose", help="Each thing by itself"),
    ),
    run,
)
