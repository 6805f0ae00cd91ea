"""``pybuild volume ls``"""

from __future__ import annotations

from collections.abc import Callable

from buildkit_py.cli import listing
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.runtime.volumes import Volume

HEADINGS: dict[str, str | Callable[[str], str]] = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Label": listing.label_heading,
    "Links": "LINKS",
    "Size": "SIZE",
}
COLUMNS = ("Driver", "Name")
FILTERS = ("dangling", "driver", "label", "name")


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    wanted = listing.filters(args.texts("filters"), FILTERS)
    engine = Engine()
    try:
        rows = [fields(v) for v in engine.volumes.list() if kept(engine, v, wanted)]
    finally:
        engine.close()
    if args.flag("quiet"):
        for row in rows:
            print(row["Name"])
        return 0
    listing.show(rows, HEADINGS, args.text("format"), COLUMNS)
    return 0


def fields(volume: Volume) -> dict[str, Any]:
    return {
        "Driver": "local",
        "Name": volume.name,
        "Scope": "local",
        "Mountpoint": volume.path,
        "Labels": ",".join(f"{key}={value}" for key, value in volume.labels.items()),
        "Label": lambda key: volume.labels.get(key, ""),
        "Links": "N/A",
        "Size": "N/A",
    }


def kept(engine: Engine, volume: Volume, wanted: dict[str, list[str]]) -> bool:
    from buildkit_py.engine.containers import users

    if wanted["name"] and not any(text in volume.name for text in wanted["name"]):
        return False
    if wanted["driver"] and "local" not in wanted["driver"]:
        return False
    if not listing.labelled(volume.labels, wanted["label"]):
        return False
    return all((text in ("true", "1")) != bool(users(engine, volume.name)) for text in wanted["dangling"])


COMMAND = Command(
    "volume ls",
    "List volumes.",
    (
        option(
            "-f", "--filter", name="filters", multiple=True, metavar="NAME=VALUE", help=", ".join(FILTERS)
        ),
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.Name}}'"),
        flag("-q", "--quiet", help="Show names only"),
    ),
    run,
)
