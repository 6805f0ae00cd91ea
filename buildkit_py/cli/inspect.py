"""``pybuild inspect``"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from buildkit_py.cli import sizes, template
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.errors import NotFoundError

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.image.store import Image, ImageStore


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    kind = args.text("type")
    try:
        found = [_found(engine, name, kind) for name in args.texts("names")]
    finally:
        engine.close()
    form = args.text("format")
    if form in ("", "json"):
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for item in found:
            print(template.render(form, item))
    return 0


def _found(engine: Engine, name: str, kind: str) -> dict[str, Any]:
    """What has the name: a container, or else an image. Raises NotFoundError."""
    if kind != "image":
        container = engine.containers.find(name)
        if container is not None:
            from buildkit_py.runtime import description

            return description.document(container, container.config(), container.state(), engine.root)
        if kind == "container":
            engine.containers.get(name)
    image = engine.images.match(name, "")
    if image is None:
        what = "image" if kind == "image" else "container or image"
        raise NotFoundError(f"no such {what}: {name}", hint="`pybuild ps -a` and `pybuild images` list them")
    image = engine.images.find(name)
    return document(engine.images, image._replace(size=engine.size_of(image)))


def document(store: ImageStore, image: Image) -> dict[str, Any]:
    """An image as `docker image inspect` describes it."""
    config = image.config
    system, architecture, *variant = [*image.platform.split("/"), ""]
    return {
        "Id": image.id,
        "RepoTags": [_tag(name) for name in image.names if "@" not in name],
        "RepoDigests": store.repo_digests(image.id),
        "Created": config.get("created") or sizes.timestamp(image.created),
        "Author": config.get("author", ""),
        "Config": config.get("config") or {},
        "Architecture": config.get("architecture", architecture),
        "Variant": config.get("variant", variant[0]),
        "Os": config.get("os", system),
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": list(config["rootfs"]["diff_ids"])},
        "History": config.get("history") or [],
        "Metadata": {"LastTagTime": sizes.timestamp(image.created)},
    }


def _tag(name: str) -> str:
    return name.removeprefix("docker.io/").removeprefix("library/")


COMMAND = Command(
    "inspect",
    "Show the details of containers and images as JSON.",
    (
        option("-f", "--format", metavar="FORMAT", help="A template like '{{.Id}}' or '{{json .Config}}'"),
        option("--type", metavar="KIND", choices=("container", "image"), help="Which of both is meant"),
        Argument("names", metavar="NAME...", many=True),
    ),
    run,
    examples=(
        "pybuild inspect --format '{{.State.Status}}' web",
        "pybuild inspect --format '{{json .Config.Env}}' app:1",
    ),
)
