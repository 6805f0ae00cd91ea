"""``pybuild volume inspect``"""

from __future__ import annotations

from buildkit_py.cli import details, sizes
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.runtime.volumes import Volume


def run(args: Args) -> int:
    return details.show(args, lambda engine, name: document(engine.volumes.get(name)))


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
