"""Images of the store as one archive (``pybuild save``), in the form of type=docker or type=oci."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.exporter import Stores, output
from buildkit_py.exporter.layout import LayoutWriter
from buildkit_py.image.store import Image
from buildkit_py.layer.compress import Method


def save(
    wanted: Sequence[tuple[Sequence[Image], Sequence[str]]],
    dest: str,
    stores: Stores,
    *,
    docker: bool = True,
    method: Method = "gzip",
) -> None:
    """Write images with the names to give each; ``dest``: a file, or ``-`` for standard output.

    Images that go together are the platforms of one, and become an index.
    """
    with output.opened(dest, stores.content) as fd:
        writer = LayoutWriter(fd, docker=docker)
        for images, names in wanted:
            if len(images) > 1:
                writer.add_index(images, stores, names, method=method)
            else:
                writer.add_image(images[0], stores, names, method=method)
        writer.close()
