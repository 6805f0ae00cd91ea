"""Converting text with images that exist only here."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.digest import of_bytes
from buildkit_py.errors import DockerfileError, NotFoundError
from buildkit_py.frontends.dockerfile.convert import ConvertOptions, convert
from buildkit_py.frontends.dockerfile.parser import parse
from buildkit_py.llb.graph import Node
from buildkit_py.llb.result import FrontendResult, ResolvedImage

BASE: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "author": "somebody",
    "unknown": {"kept": True},
    "container_config": {"Cmd": ["gone"]},
    "rootfs": {"type": "layers", "diff_ids": []},
    "history": [{"created_by": "base"}],
    "config": {
        "Env": ["PATH=/base/bin", "FROM_BASE=yes"],
        "Cmd": ["base-cmd"],
        "WorkingDir": "/base",
        "Unknown": [1],
    },
}


class FakeImages:
    """An ImageResolver over a dictionary; ``base`` and every ``image*`` exist."""

    def __init__(self, images: dict[str, dict[str, Any]]) -> None:
        self.images = {"base": BASE, **images}
        self.asked: list[tuple[str, str]] = []

    def resolve(self, ref: str, platform: str) -> ResolvedImage:
        self.asked.append((ref, platform))
        config = self.images.get(ref)
        if config is None:
            if not ref.startswith("image"):
                raise NotFoundError(f"no such image: {ref}")
            config = {"architecture": platform.split("/")[1], "os": "linux", "config": {}}
        return ResolvedImage(f"docker.io/library/{ref}:latest", of_bytes(ref.encode()), config)


class Built:
    def __init__(self, result: FrontendResult, images: FakeImages) -> None:
        self.result = result
        self.images = images
        (self.target,) = result.targets
        self.document = self.target.config
        self.config: dict[str, Any] = self.document["config"]
        self.nodes: list[Node] = list(result.graph.nodes.values())

    @property
    def root(self) -> Node:
        assert self.target.root is not None
        return self.result.graph.nodes[self.target.root]

    @property
    def names(self) -> list[str]:
        return [node.meta.name for node in self.nodes]

    @property
    def history(self) -> list[str]:
        """Of this build: without the base's."""
        return [h["created_by"] for h in self.document["history"] if h.get("comment")]

    def ops(self, kind: type) -> list[Any]:
        return [node.op for node in self.nodes if isinstance(node.op, kind)]


class Builder:
    def __call__(
        self, text: str | bytes, images: dict[str, dict[str, Any]] | None = None, **options: Any
    ) -> Built:
        fake = FakeImages(images or {})
        data = text if isinstance(text, bytes) else text.encode()
        options.setdefault("platforms", ("linux/amd64",))
        return Built(convert(parse(data, "Dockerfile"), ConvertOptions(**options), fake), fake)

    def error(self, text: str, **options: Any) -> DockerfileError:
        with pytest.raises(DockerfileError) as caught:
            self(text, **options)
        assert caught.value.path == "Dockerfile"
        return caught.value
