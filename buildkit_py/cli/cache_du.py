"""``pybuild cache du``"""

from __future__ import annotations

from buildkit_py.cli import report, sizes, template
from buildkit_py.cli.command import Args, Command, flag, option

HEADINGS = ("ID", "SIZE", "FILES", "SHARED", "CREATED", "STEP")
COLUMNS = ("ID", "Size", "Files", "Shared", "CreatedSince", "Description")


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        names = {record.snapshot: record.name for record in engine.index.records()}
        usage = engine.snapshots.usage()
        blobs = sum(engine.content.size(digest) for digest in engine.content.digests())
    finally:
        engine.close()
    rows = [
        {
            "ID": sizes.short(item.snapshot, args.flag("no_trunc")),
            "Size": sizes.size(item.size),
            "Files": str(item.files),
            "Shared": "true" if item.shared > 1 else "false",
            "CreatedSince": sizes.age(item.created),
            "Description": names.get(item.snapshot, ""),
        }
        for item in usage
    ]
    form = args.text("format")
    if form not in ("", "table"):
        for row in rows:
            print(template.render("{{json .}}" if form == "json" else form, row))
        return 0
    if args.flag("verbose"):
        report.table([HEADINGS, *([row[c] for c in COLUMNS] for row in rows)])
        print()
    layers = sum({item.layer: item.size for item in usage}.values())
    print(f"Snapshots: {sizes.size(layers)}  ({len(usage)})")
    print(f"Blobs:     {sizes.size(blobs)}")
    print(f"Total:     {sizes.size(layers + blobs)}")
    return 0


COMMAND = Command(
    "cache du",
    "Show what the store takes on disk.",
    (
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.ID}} {{.Size}}'"),
        flag("--no-trunc", help="Show whole ids"),
        flag("-v", "--verbose", help="Each snapshot by itself"),
    ),
    run,
)
