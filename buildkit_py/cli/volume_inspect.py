"""``pybuild volume inspect``"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from buildkit_py.cli import report, sizes, template
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.errors import NotFoundError

if TYPE_CHECKING:
    from buildkit_py.runtime.volumes import Volume


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    status, found = 0, []
    try:
        for name in args.texts("names"):
            try:
                found.append(document(engine.volumes.get(name)))
            except NotFoundError as error:
                status = report.show(error)
    finally:
        engine.close()
    form = args.text("format")
    if form in ("", "json"):
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for item in found:
            print(template.render(form, item))
    return status


def document(volume: Volume) -> dict[str, Any]:
    """As ``docker volume inspect`` has it."""
    labels = dict(volume.labels)
    if volume.anonymous:
        labels["com.docker.volume.anonymous"] = ""
    return {
        "CreatedAt": sizes.timestamp(volume.created),
        "Driver": "local",
        "Labels": labels or None,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": volume.options or None,
        "Scope": "local",
    }


COMMAND = Command(
    "volume inspect",
    "Show the details of volumes as JSON.",
    (
        option("-f", "--format", metavar="FORMAT", help="A template like '{{.Mountpoint}}'"),
        Argument("names", metavar="VOLUME...", many=True),
    ),
    run,
)
