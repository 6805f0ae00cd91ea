"""``pybuild inspect``"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from buildkit_py.cli import sizes, template
from buildkit_py.cli.command import Args, Argument, Command, option

if TYPE_CHECKING:
    from buildkit_py.image.store import Image, ImageStore


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        images = [engine.images.find(name) for name in args.texts("images")]
        images = [image._replace(size=engine.size_of(image)) for image in images]
        found = [document(engine.images, image) for image in images]
    finally:
        engine.close()
    form = args.text("format")
    if form in ("", "json"):
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for image in found:
            print(template.render(form, image))
    return 0


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
    "Show the details of images as JSON.",
    (
        option("-f", "--format", metavar="FORMAT", help="A template like '{{.Id}}' or '{{json .Config}}'"),
        option("--type", metavar="KIND", choices=("image",), help="Docker's option: only images are known"),
        Argument("images", metavar="IMAGE...", many=True),
    ),
    run,
    examples=("pybuild inspect --format '{{json .Config.Env}}' app:1",),
)
