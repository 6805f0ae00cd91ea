"""``pybuild history ls``"""

from __future__ import annotations

from fnmatch import fnmatchcase

from buildkit_py.cli import listing, sizes
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.progress.text import duration
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.history.record import Build

COLUMNS = ("ID", "Name", "Status", "CreatedSince", "Duration", "Steps", "Cached")
HEADINGS = {
    "ID": "BUILD ID",
    "Name": "NAME",
    "Status": "STATUS",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Duration": "DURATION",
    "Steps": "STEPS",
    "Cached": "CACHED",
    "Context": "CONTEXT",
    "Image": "IMAGE",
    "Error": "ERROR",
}
FILTERS = ("status", "name", "context", "image")


def run(args: Args) -> int:
    filters = _filters(args.texts("filters"))
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        rows = [fields(build) for build in engine.history.builds() if kept(build, filters)]
    finally:
        engine.close()
    form = args.text("format")
    if args.flag("quiet"):
        for row in rows:
            print(row["ID"])
    else:
        listing.show(rows, HEADINGS, form, COLUMNS)
    return 0


def fields(build: Build) -> dict[str, str]:
    """One line of the list."""
    return {
        "ID": build.id,
        "Name": build.name,
        "Status": build.status,
        "CreatedAt": sizes.timestamp(build.started),
        "CreatedSince": sizes.age(build.started),
        "Duration": duration(build.seconds) if build.completed else "",
        "Steps": str(len(build.work)),
        "Cached": str(sum(step.state == "cached" for step in build.work)),
        "Context": str(build.inputs.get("context", "")),
        "Image": str(build.outputs.get("image", "")),
        "Error": build.error,
    }


def kept(build: Build, filters: dict[str, list[str]]) -> bool:
    """Whether a build has one of the values of each filter; wildcards are those of a shell."""
    row = fields(build)
    for name, wanted in filters.items():
        value = row[name.capitalize()]
        if name == "image":
            hits = any(value.startswith((w, "sha256:" + w)) for w in wanted if w)
        else:
            hits = any(fnmatchcase(value, w) for w in wanted)
        if wanted and not hits:
            return False
    return True


def _filters(texts: tuple[str, ...]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {name: [] for name in FILTERS}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--filter: '{text}' is not of the form NAME=VALUE")
        if name not in result:
            raise UsageError(f"--filter: unknown filter '{name}'", hint="one of " + ", ".join(FILTERS))
        result[name].append(value)
    return result


COMMAND = Command(
    "history ls",
    "List builds, the latest first.",
    (
        option(
            "-f",
            "--filter",
            name="filters",
            multiple=True,
            metavar="NAME=VALUE",
            help="status=, name=, context=, image=",
        ),
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.ID}} {{.Status}}'"),
        flag("-q", "--quiet", help="Show ids only"),
    ),
    run,
    examples=("pybuild history ls -f status=failed",),
)
