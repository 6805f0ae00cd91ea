"""``pybuild cache du``"""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.cli import cache_ls, listing, sizes
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.digest import Digest
    from buildkit_py.engine.inventory import Inventory
    from buildkit_py.history.record import Build

Row = dict[str, str]
HEADINGS = {
    "type": {"Type": "TYPE", "Count": "COUNT", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"},
    "image": {"Image": "IMAGE", "Size": "SIZE", "Shared": "SHARED", "Own": "OWN"},
    "build": {
        "Build": "BUILD",
        "Name": "NAME",
        "StartedSince": "STARTED",
        "Size": "SIZE",
        "Shared": "SHARED",
        "Own": "OWN",
    },
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
        builds = list(engine.history.builds()) if args.text("by") == "build" else []
    finally:
        engine.close()
    view = "item" if args.flag("verbose") else args.text("by") or "type"
    if view == "item":
        rows = [cache_ls.fields(item, args.flag("no_trunc")) for item in found.items]
    elif view == "image":
        rows = by_image(found)
    elif view == "build":
        rows = by_build(found, builds)
    else:
        rows = by_type(found, blobs)
    form, columns = args.text("format"), HEADINGS[view]
    more = cache_ls.HEADINGS if view == "item" else {"Bytes": "BYTES"}
    listing.show(rows, {**more, **columns}, form, tuple(columns))
    if form not in ("", "table"):
        return 0
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
    return [
        {"Image": cache_ls.shown(name), **_parts(found, layers, name)}
        for name in sorted(layers, key=cache_ls.shown)
    ]


def by_build(found: Inventory, builds: list[Build]) -> list[Row]:
    """Of the builds that the history has, what their steps' results take that are still here."""
    snapshots = {item.id: item.snapshot for item in found.items if item.snapshot}
    layers = {
        build.id: {found.layout.layers[s] for step in build.work if (s := _below(found, snapshots, step.key))}
        for build in builds
    }
    return [
        {
            "Build": build.id,
            "Name": build.name,
            "StartedSince": sizes.age(build.started),
            **_parts(found, layers, build.id),
        }
        for build in builds
    ]


def _below(found: Inventory, snapshots: dict[str, str], key: str) -> str:
    """The snapshot of a key where it has a layer here."""
    snapshot = snapshots.get(key, "")
    return snapshot if snapshot in found.layout.layers else ""


def _parts(found: Inventory, layers: dict[str, set[str]], name: str) -> Row:
    """What one takes alone, and what it has in common with another."""
    others: set[str] = set().union(*(other for key, other in layers.items() if key != name))
    own = sum(found.layout.sizes[layer] for layer in layers[name] - others)
    shared = sum(found.layout.sizes[layer] for layer in layers[name] & others)
    return {
        "Size": sizes.size(own + shared),
        "Bytes": str(own + shared),
        "Shared": sizes.size(shared),
        "Own": sizes.size(own),
    }


def total(found: Inventory, blobs: Mapping[Digest, int]) -> int:
    others = sum(item.size for item in found.items if not item.snapshot and item.kind != "source.http")
    return sum(found.layout.sizes.values()) + others + sum(blobs.values())


COMMAND = Command(
    "cache du",
    "Show what the store takes on disk: by kind, by image, by build, or thing by thing.",
    (
        option(
            "--by",
            metavar="KIND",
            choices=("type", "image", "build"),
            default="type",
            help="type, image or build",
        ),
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.Type}} {{.Size}}'"),
        flag("--no-trunc", help="Show whole ids"),
        flag("-v", "--verbose", help="Each thing by itself"),
    ),
    run,
)
