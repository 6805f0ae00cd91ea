"""``type=image``: into the image store, under its names; pushed too with ``push=true``."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.errors import UsageError
from buildkit_py.exporter import Product, Stores
from buildkit_py.exporter.push import push, push_by_digest, push_index
from buildkit_py.exporter.spec import OutputSpec, check_untagged
from buildkit_py.image import reference
from buildkit_py.image.store import Image, ImageStore
from buildkit_py.oci.documents import DescriptorDict
from buildkit_py.progress.events import Emit
from buildkit_py.typed import Any


def store(
    products: tuple[Product, ...], stores: Stores, names: tuple[str, ...], *, index: bool
) -> list[Image]:
    """Put the products into the store and name them; the images in the same order."""
    images: list[Image] = []
    for product in products:
        image_id = stores.images.put(product.config, manifest=product.manifest or None)
        found = stores.images.by_id(image_id)
        assert found is not None
        images.append(found)
    name_all(stores.images, images, names, index=index)
    return images


def name_all(store: ImageStore, images: Sequence[Image], names: Sequence[str], *, index: bool) -> list[str]:
    """Let each name mean the image, or an index of all of them; the normalised names."""
    if not index:
        return [store.tag(name, images[0].id) for name in names]
    digest = store.put_index(images)
    return [store.tag(name, digest, "index") for name in names]


def names_of(spec: OutputSpec, products: tuple[Product, ...]) -> tuple[str, ...]:
    """Normalised: what ``name=`` gives, else what ``-t`` gave."""
    given = spec.names or products[0].names
    return tuple(dict.fromkeys(str(reference.parse(name)) for name in given))


def export(
    spec: OutputSpec, products: tuple[Product, ...], stores: Stores, emit: Emit, vertex: str
) -> dict[str, Any]:
    by_digest = spec.flag("push-by-digest", False)
    if by_digest:
        check_untagged(spec.names or products[0].names)
    names = names_of(spec, products)
    kept = () if by_digest or not spec.flag("store", True) else names
    images = store(products, stores, kept, index=spec.as_index)
    told: dict[str, Any] = {"containerimage.config.digest": images[0].id}
    if names:
        shown = [name.rpartition(":")[0] for name in names] if by_digest else names
        told["image.name"] = ",".join(shown)
    annotations = spec.packing.annotations
    for name in kept:
        stores.images.annotate(name, annotations)
    if spec.kind == "registry" or spec.flag("push", False) or by_digest:
        pushed = _push_all(spec, images, names, stores, emit, vertex)
        told |= {"containerimage.digest": pushed["digest"], "containerimage.descriptor": pushed}
    return told


def _push_all(
    spec: OutputSpec,
    images: list[Image],
    names: tuple[str, ...],
    stores: Stores,
    emit: Emit,
    vertex: str,
) -> DescriptorDict:
    if not names:
        raise UsageError("an image without a name cannot be pushed", hint="name it with -t REGISTRY/NAME:TAG")
    by_digest = spec.flag("push-by-digest", False)
    pushed: DescriptorDict | None = None
    for name in names:
        if spec.flag("registry.insecure", False):
            stores.sources.client.trust(reference.parse(name).registry)
        if spec.listed:
            pushed = push_index(images, name, stores, emit, vertex, spec.packing, by_digest=by_digest)
        else:
            push_one = push_by_digest if by_digest else push
            pushed = push_one(images[0], name, stores, emit, vertex, spec.packing)
    assert pushed is not None
    return pushed
