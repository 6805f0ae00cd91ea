"""Images of the store as one archive (``pybuild save``), in the form of type=docker or type=oci."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.exporter import Stores, output
from buildkit_py.exporter.layout import LayoutWriter
from buildkit_py.exporter.spec import Method
from buildkit_py.image.store import Image


def save(
    images: Sequence[tuple[Image, Sequence[str]]],
    dest: str,
    stores: Stores,
    *,
    docker: bool = True,
    method: Method = "gzip",
) -> None:
    """Write images with the names to give each; ``dest``: a file, or ``-`` for standard output."""
    with output.opened(dest, stores.content) as fd:
        writer = LayoutWriter(fd, docker=docker)
        for image, names in images:
            writer.add_image(image, stores, names, method=method)
        writer.close()
