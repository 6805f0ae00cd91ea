"""``pybuild cache verify``"""

from __future__ import annotations

from buildkit_py.cli import report
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine.store_check import Checked


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    if args.text("format") not in ("", "table", "json"):
        raise UsageError(f"--format: '{args.text('format')}' is not known", hint="table or json")
    engine = Engine()
    try:
        checked = engine.check(mend=not args.flag("dry_run"))
    finally:
        engine.close()
    if args.text("format") == "json":
        import json

        fields = {**checked._asdict(), "findings": [finding._asdict() for finding in checked.findings]}
        print(json.dumps({**fields, "broken": checked.broken}, indent=2))
    else:
        show(checked, dry_run=args.flag("dry_run"))
    return 1 if checked.broken else 0


def show(checked: Checked, *, dry_run: bool) -> None:
    heading = "WOULD BE" if dry_run else "WAS"
    if checked.findings:
        rows = [[f.kind, f.id, f.problem, f.mend or "-"] for f in checked.findings]
        report.table([["KIND", "ID", "PROBLEM", heading], *rows])
        print()
    print(
        f"Right: {checked.blobs} blobs, {checked.layers} layers, {checked.records} records;",
        f"not to be checked: {checked.unchecked} layers",
    )


COMMAND = Command(
    "cache verify",
    "Check the store against its own digests, and mend or drop what is broken: blobs, layers, records that "
    "lead nowhere, what killed processes left.\n\nThe exit status is 1 where something was broken.",
    (
        flag("--dry-run", help="Only say what is wrong"),
        option("--format", metavar="FORMAT", help="table or json"),
    ),
    run,
)
