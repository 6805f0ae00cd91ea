"""``pybuild system df``: docker's view of what ``cache du`` shows by the parts of a store."""

from __future__ import annotations

from buildkit_py.cli import listing, sizes
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.errors import NotFoundError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.inventory import Inventory
    from buildkit_py.runtime.container import Container
    from buildkit_py.runtime.volumes import Volume

Row = dict[str, str]
HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        engine.begin(supervisors=0)
        found = engine.inventory()
        engine.enter()
        containers = [(container, _own(container)) for container in engine.containers.list()]
        volumes = [(volume, _links(containers, volume), _taken(volume)) for volume in engine.volumes.list()]
        if args.flag("verbose"):
            _details(engine, containers, volumes)
            return 0
        rows = [_images(engine, found), _containers(containers), _volumes(volumes), _cache(found)]
    finally:
        engine.close()
    listing.show(rows, HEADINGS, args.text("format"), tuple(HEADINGS))
    return 0


def _own(container: Container) -> int:
    from buildkit_py.snapshot.usage import measure

    return measure(container.part("fs"))[0]


def _taken(volume: Volume) -> int:
    from buildkit_py.snapshot.usage import measure

    return 0 if "device" in volume.options else measure(volume.path)[0]


def _links(containers: list[tuple[Container, int]], volume: Volume) -> int:
    """How many containers have it."""
    count = 0
    for container, _ in containers:
        try:
            mounts = container.config().mounts
        except NotFoundError:
            continue
        count += any(m.kind == "volume" and m.source == volume.name for m in mounts)
    return count


def _row(kind: str, count: int, active: int, size: int, free: int) -> Row:
    share = f" ({100 * free // size}%)" if size else ""
    return {
        "Type": kind,
        "TotalCount": str(count),
        "Active": str(active),
        "Size": sizes.size(size),
        "Reclaimable": sizes.size(free) + share,
    }


def _images(engine: Engine, found: Inventory) -> Row:
    used = {container.image for container in engine.containers.list()}
    layers: dict[str, set[str]] = {}
    active = 0
    for image in engine.images.images():
        name = image.names[0] if image.names else image.id
        part = layers.setdefault("used" if image.id in used else "free", set())
        part |= {found.layout.layers[s] for s in found.images.get(name, ()) if s in found.layout.layers}
        active += image.id in used
    kept, free = layers.get("used", set()), layers.get("free", set())

    def taken(part: set[str]) -> int:
        return sum(found.layout.sizes[layer] for layer in part)

    return _row("Images", len(found.images), active, taken(kept | free), taken(free - kept))


def _containers(containers: list[tuple[Container, int]]) -> Row:
    alive = [size for container, size in containers if container.alive()]
    every = sum(size for _, size in containers)
    return _row("Containers", len(containers), len(alive), every, every - sum(alive))


def _volumes(volumes: list[tuple[Volume, int, int]]) -> Row:
    used = [size for _, links, size in volumes if links]
    every = sum(size for _, _, size in volumes)
    return _row("Local Volumes", len(volumes), len(used), every, every - sum(used))


def _cache(found: Inventory) -> Row:
    """What images and containers stand on counts as theirs."""
    from buildkit_py.cli.cache_du import reclaimable

    pinned = [item for item in found.items if item.pinned]
    free = sum(reclaimable(found).values())
    return _row("Build Cache", len(found.items), len(pinned), free, free)


def _details(
    engine: Engine, containers: list[tuple[Container, int]], volumes: list[tuple[Volume, int, int]]
) -> None:
    from buildkit_py.cli import images, ps, report

    print("Images space usage:\n")
    rows = [["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "CONTAINERS"]]
    for image in engine.images.images():
        count = sum(container.image == image.id for container, _ in containers)
        for name in image.names or ("",):
            row = images.fields(image._replace(size=engine.size_of(image)), name)
            rows.append([row[c] for c in ("Repository", "Tag", "ID", "CreatedSince", "Size")] + [str(count)])
    report.table(rows)
    print("\nContainers space usage:\n")
    rows = [["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"]]
    for container, size in containers:
        row = ps.fields(container, container.config(), container.state(), whole=False)
        row["Size"] = sizes.size(size)
        columns = "ID Image Command LocalVolumes Size RunningFor Status Names"
        rows.append([row[c] for c in columns.split()])
    report.table(rows)
    print("\nLocal Volumes space usage:\n")
    rows = [["VOLUME NAME", "LINKS", "SIZE"]]
    rows += [[volume.name, str(links), sizes.size(size)] for volume, links, size in volumes]
    report.table(rows)
    print("\nBuild cache: see `pybuild cache du -v`")


COMMAND = Command(
    "system df",
    "Show what images, containers, volumes and the build cache take on disk. `cache du` tells more of the "
    "last.",
    (
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.Type}} {{.Size}}'"),
        flag("-v", "--verbose", help="Each by itself"),
    ),
    run,
)
