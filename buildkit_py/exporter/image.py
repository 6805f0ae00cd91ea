"""``type=image``: into the image store, under its names; pushed too with ``push=true``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buildkit_py.digest import Digest
from buildkit_py.errors import UsageError
from buildkit_py.exporter import Product, Stores
from buildkit_py.exporter.push import push, push_index
from buildkit_py.exporter.spec import OutputSpec
from buildkit_py.image import reference
from buildkit_py.image.store import Image, ImageStore
from buildkit_py.progress.events import Emit


def store(products: tuple[Product, ...], stores: Stores, names: tuple[str, ...]) -> list[Image]:
    """Put the products into the store and name them; the images in the same order.

    One platform: the names mean the image. Several: they mean an index of all of them.
    """
    images: list[Image] = []
    for product in products:
        image_id = stores.images.put(product.config, manifest=product.manifest or None)
        found = stores.images.by_id(image_id)
        assert found is not None
        images.append(found)
    name_all(stores.images, images, names)
    return images


def name_all(store: ImageStore, images: Sequence[Image], names: Sequence[str]) -> list[str]:
    """Let each name mean the image, or the index of several; the normalised names."""
    if len(images) == 1:
        return [store.tag(name, images[0].id) for name in names]
    index = store.put_index(images)
    return [store.tag(name, index, "index") for name in names]


def names_of(spec: OutputSpec, products: tuple[Product, ...]) -> tuple[str, ...]:
    """Normalised: what ``name=`` gives, else what ``-t`` gave."""
    given = spec.names or products[0].names
    return tuple(dict.fromkeys(str(reference.parse(name)) for name in given))


def export(
    spec: OutputSpec, products: tuple[Product, ...], stores: Stores, emit: Emit, vertex: str
) -> dict[str, Any]:
    names = names_of(spec, products)
    images = store(products, stores, names)
    told: dict[str, Any] = {"containerimage.config.digest": images[0].id}
    if names:
        told["image.name"] = ",".join(names)
    if spec.kind == "registry" or spec.flag("push", False):
        told["containerimage.digest"] = _push_all(spec, images, names, stores, emit, vertex)
    return told


def _push_all(
    spec: OutputSpec,
    images: list[Image],
    names: tuple[str, ...],
    stores: Stores,
    emit: Emit,
    vertex: str,
) -> Digest:
    if not names:
        raise UsageError("an image without a name cannot be pushed", hint="name it with -t REGISTRY/NAME:TAG")
    digest: Digest | None = None
    for name in names:
        if len(images) > 1:
            digest = push_index(images, name, stores, emit, vertex, method=spec.compression, level=spec.level)
        else:
            digest = push(images[0], name, stores, emit, vertex, method=spec.compression, level=spec.level)
    assert digest is not None
    return digest
