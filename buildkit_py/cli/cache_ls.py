"""``pybuild cache ls``"""

from __future__ import annotations

from buildkit_py.cli import report, sizes, template
from buildkit_py.cli.command import Args, Command, flag, option


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        records = list(engine.index.records())
    finally:
        engine.close()
    whole = args.flag("no_trunc")
    rows = [
        {
            "ID": sizes.short(record.key, whole),
            "Snapshot": sizes.short(record.snapshot, whole),
            "CreatedAt": sizes.timestamp(record.created),
            "CreatedSince": sizes.age(record.created),
            "LastUsedSince": sizes.age(record.used),
            "UsageCount": str(record.uses),
            "Description": record.name,
        }
        for record in records
    ]
    form = args.text("format")
    if args.flag("quiet"):
        for row in rows:
            print(row["ID"])
    elif form in ("", "table"):
        report.table([HEADINGS, *([row[c] for c in COLUMNS] for row in rows)])
    else:
        for row in rows:
            print(template.render("{{json .}}" if form == "json" else form, row))
    return 0


COLUMNS = ("ID", "CreatedSince", "LastUsedSince", "UsageCount", "Description")
HEADINGS = ("ID", "CREATED", "LAST USED", "USES", "STEP")

COMMAND = Command(
    "cache ls",
    "List the records of the build cache, the most recently used first.",
    (
        option(
            "--format", metavar="FORMAT", help="table, json, or a template like '{{.ID}} {{.Description}}'"
        ),
        flag("--no-trunc", help="Show whole ids"),
        flag("-q", "--quiet", help="Show ids only"),
    ),
    run,
)
