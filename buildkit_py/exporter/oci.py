"""``type=oci``: an OCI image layout, for skopeo, podman, umoci and others."""

from __future__ import annotations

from contextlib import ExitStack

from buildkit_py import digest as digests
from buildkit_py.exporter import Product, Stores, output
from buildkit_py.exporter.image import names_of
from buildkit_py.exporter.layout import LayoutWriter
from buildkit_py.exporter.sinks import FolderSink, Sink, TarSink
from buildkit_py.exporter.spec import OutputSpec
from buildkit_py.image.store import Image
from buildkit_py.progress.events import Emit
from buildkit_py.typed import Any


def export(
    spec: OutputSpec, products: tuple[Product, ...], stores: Stores, emit: Emit, vertex: str
) -> dict[str, Any]:
    return write(spec, products, stores, docker=False)


def write(spec: OutputSpec, products: tuple[Product, ...], stores: Stores, *, docker: bool) -> dict[str, Any]:
    """Write the layout, as a tar or (``tar=false``) as a directory. Several platforms become one index."""
    names = names_of(spec, products)
    images = [_image(product, stores) for product in products]
    with ExitStack() as stack:
        sink: Sink
        if spec.flag("tar", True):
            sink = TarSink(stack.enter_context(output.opened(spec.dest, stores.content)))
        else:
            sink = FolderSink(spec.dest)
        writer = LayoutWriter(sink, docker=docker)
        if spec.listed:
            top = writer.add_index(images, stores, names, spec.packing)
        else:
            top = writer.add_image(images[0], stores, names, spec.packing)
        writer.close()
    return {
        "containerimage.digest": top["digest"],
        "containerimage.descriptor": top,
        "containerimage.config.digest": images[0].id,
    }


def _image(product: Product, stores: Stores) -> Image:
    """The product as an image; its config must lie in the content store, but no name is given."""
    image_id = stores.content.write(product.config)
    found = stores.images.by_id(image_id)
    if found is not None:
        return found
    from buildkit_py.oci import documents

    return Image(
        digests.of_bytes(product.config), None, product.platform, 0, 0.0, documents.config(product.config)
    )
