"""``pybuild inspect``"""

from __future__ import annotations

from buildkit_py.cli import details, sizes
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.cli.images import familiar
from buildkit_py.errors import NotFoundError, UsageError
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.image.store import Image, ImageStore


def run(args: Args) -> int:
    kind, sizes = args.text("type"), args.flag("size")
    return details.show(args, lambda engine, name: _found(engine, name, kind, sizes=sizes))


def _found(engine: Engine, name: str, kind: str, *, sizes: bool) -> dict[str, Any]:
    """What has the name: a container, else an image, a volume or a network. Raises NotFoundError."""
    for each, find in FINDERS.items():
        found = find(engine, name) if kind in ("", each) else None
        if found is not None:
            return _measured(engine, found) if sizes and each == "container" else found
    raise NotFoundError(
        f"no such {kind or 'container or image'}: {name}",
        hint="`pybuild ps -a`, `images`, `volume ls` and `network ls` list what is here",
    )


def _container(engine: Engine, name: str) -> dict[str, Any] | None:
    from buildkit_py.runtime import description

    container = engine.containers.find(name)
    if container is None:
        return None
    return description.document(container, container.config(), container.state(), engine.root)


def _measured(engine: Engine, document: dict[str, Any]) -> dict[str, Any]:
    from buildkit_py.cli.ps import measured

    own, whole = measured(engine, engine.containers.get(document["Id"]))
    return document | {"SizeRw": own, "SizeRootFs": whole}


def _image(engine: Engine, name: str) -> dict[str, Any] | None:
    try:
        if engine.images.match(name, "") is None:
            return None
    except UsageError:
        # No image can be called that.
        return None
    image = engine.images.find(name)
    return document(engine.images, image._replace(size=engine.size_of(image)))


def _volume(engine: Engine, name: str) -> dict[str, Any] | None:
    from buildkit_py.cli.volume_inspect import document

    try:
        return document(engine.volumes.get(name))
    except NotFoundError:
        return None


def _network(engine: Engine, name: str) -> dict[str, Any] | None:
    from buildkit_py.cli.network_inspect import document

    try:
        return document(engine, name)
    except NotFoundError:
        return None


_UNSET: dict[str, Any] = {
    **dict.fromkeys(("User", "WorkingDir"), ""),
    **dict.fromkeys(("Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels")),
}
"""An image's config leaves out what it doesn't set; docker shows these all the same."""

FINDERS = {"container": _container, "image": _image, "volume": _volume, "network": _network}


def document(store: ImageStore, image: Image) -> dict[str, Any]:
    """An image as `docker image inspect` describes it."""
    config = image.config
    comments = [entry["comment"] for entry in config.get("history") or [] if entry.get("comment")]
    system, architecture, *variant = [*image.platform.split("/"), ""]
    return {
        "Id": image.id,
        "RepoTags": [familiar(name) for name in image.names if "@" not in name],
        "RepoDigests": store.repo_digests(image.id),
        "Parent": "",
        "Comment": comments[-1] if comments else "",
        "Created": config.get("created") or sizes.timestamp(image.created),
        "DockerVersion": "",
        "Author": config.get("author", ""),
        "Config": _UNSET | (config.get("config") or {}),
        "Architecture": config.get("architecture", architecture),
        "Variant": config.get("variant", variant[0]),
        "Os": config.get("os", system),
        "Size": image.size,
        "GraphDriver": {"Name": "overlayfs", "Data": None},
        "RootFS": {"Type": "layers", "Layers": list(config["rootfs"].get("diff_ids") or ())},
        "History": config.get("history") or [],
        "Metadata": {"LastTagTime": sizes.timestamp(image.created)},
    }


COMMAND = Command(
    "inspect",
    "Show the details of containers, images, volumes and networks as JSON.",
    (
        option("-f", "--format", metavar="FORMAT", help="A template like '{{.Id}}' or '{{json .Config}}'"),
        flag("-s", "--size", help="Of containers: how much they take on disk, too"),
        option("--type", metavar="KIND", choices=tuple(FINDERS), help="What is meant"),
        Argument("names", metavar="NAME...", many=True),
    ),
    run,
    examples=(
        "pybuild inspect --format '{{.State.Status}}' web",
        "pybuild inspect --format '{{json .Config.Env}}' app:1",
    ),
)
