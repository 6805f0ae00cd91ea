"""Images of the store as one archive (``pybuild save``), in the form of type=docker or type=oci."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.exporter import Stores, output
from buildkit_py.exporter.layout import LayoutWriter
from buildkit_py.exporter.sinks import TarSink
from buildkit_py.exporter.spec import Packing
from buildkit_py.image.store import Image
from buildkit_py.tuples import NamedTuple


class Wanted(NamedTuple):
    """What one name means."""

    images: Sequence[Image]
    """Those that go together are the platforms of one."""
    names: Sequence[str]
    """To give to it."""
    packing: Packing
    is_index: bool


def save(wanted: Sequence[Wanted], dest: str, stores: Stores, *, docker: bool = True) -> None:
    """``dest``: a file, or ``-`` for standard output."""
    with output.opened(dest, stores.content) as fd:
        writer = LayoutWriter(TarSink(fd), docker=docker)
        for images, names, packing, index in wanted:
            if index:
                writer.add_index(images, stores, names, packing)
            else:
                writer.add_image(images[0], stores, names, packing)
        writer.close()
