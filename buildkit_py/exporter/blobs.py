"""An image's layers as blobs, wherever their bytes are: in the content store, in snapshots, in a registry.

A layer that was built here exists as a snapshot alone until it leaves; its compressed form streams to where
it goes and is not kept, only its digest (``layer_blobs`` of buildkit_py.image.store): a second push to that
registry sends nothing, and the disk holds every layer once. Our compression is deterministic: made again,
the blob is the same. A layer that came from outside cannot be made again; its blob is kept or fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from buildkit_py.digest import ChainID, DiffID
from buildkit_py.errors import NotFoundError, StoreError
from buildkit_py.exporter import Stores
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.store import Image
from buildkit_py.layer.compress import Method
from buildkit_py.oci import media
from buildkit_py.snapshot.tree import Tree
from buildkit_py.source.image import FOREIGN, PREFERENCE, chain_ids
from buildkit_py.tuples import NamedTuple

Write = Callable[[bytes], object]
_CHUNK = 1 << 20
MEDIA_TYPES: dict[Method, str] = {
    "gzip": media.OCI_LAYER_GZIP,
    "zstd": media.OCI_LAYER_ZSTD,
    "none": media.OCI_LAYER,
}


class Layer(NamedTuple):
    diff_id: DiffID
    chain_id: ChainID
    blob: LayerBlob | None
    """What it is known to be as a blob; None: it has not left so far."""


def layers_of(
    image: Image, stores: Stores, method: Method | None = None, *, force: bool = False
) -> list[Layer]:
    """The layers of an image, bottom first. ``method``: the compression that is asked for (None: any).

    ``force``: as in ``known_blob``; else an image that came with a manifest has the blobs that it names.
    """
    if image.manifest is not None and not force:
        return [Layer(each.diff_id, each.chain_id, each.blob) for each in stores.sources.layers(image)]
    chains = chain_ids(image.diff_ids)
    layers = [Layer(d, chain, None) for d, chain in zip(image.diff_ids, chains, strict=True)]
    return [layer._replace(blob=known_blob(layer, stores, method, force=force)) for layer in layers]


def known_blob(
    layer: Layer, stores: Stores, method: Method | None = None, *, force: bool = False
) -> LayerBlob | None:
    """What a layer is known to be as a blob of the compression that is asked for.

    What came from outside keeps its compression, as it can't be made again, unless ``force`` is given.
    """
    if method is None:
        return stores.images.layer_blob(layer.diff_id, PREFERENCE)
    blob = stores.images.layer_blob(layer.diff_id, (MEDIA_TYPES[method],))
    if blob is None and not force and _is_foreign(layer, stores):
        blob = stores.images.layer_blob(layer.diff_id, PREFERENCE)
    return blob


def _is_foreign(layer: Layer, stores: Stores) -> bool:
    snapshot = stores.snapshots.by_chain_id(layer.chain_id)
    return snapshot is None or snapshot.startswith(FOREIGN)


def write_blob(
    layer: Layer,
    stores: Stores,
    write: Write,
    method: Method = "gzip",
    level: int | None = None,
    *,
    force: bool = False,
) -> LayerBlob:
    """Write a layer's blob to a callable (which may be called in another thread), and say what it was.

    ``force``: a layer without a blob that came from outside is compressed again from the blob that it has.
    Raises NotFoundError where the layer is nowhere any more, StoreError where it is damaged.
    """
    if layer.blob is not None and stores.content.hold(layer.blob.digest):
        return _write_stored(layer.blob, stores, write)
    snapshot = stores.snapshots.by_chain_id(layer.chain_id)
    if snapshot is not None and not snapshot.startswith(FOREIGN):
        return _write_snapshot(layer, stores, write, method, level)
    if layer.blob is not None and stores.sources.ensure_blob(layer.blob):
        return _write_stored(layer.blob, stores, write)
    if layer.blob is not None or force:
        # A blob that we made went out and was not kept; what it was made of is still to be had.
        for kind in PREFERENCE:
            blob = stores.images.layer_blob(layer.diff_id, (kind,))
            if blob is not None and blob != layer.blob and stores.sources.ensure_blob(blob):
                return _write_again(layer, blob, stores, write, method, level)
    if snapshot is not None and stores.sources.packs_again(snapshot):
        return _write_snapshot(layer, stores, write, method, level)
    raise NotFoundError(
        f"the layer {layer.diff_id} came from outside, and neither the store nor a registry has its blob",
        hint="pull or load the base image again",
    )


def _place(layer: Layer, stores: Stores) -> tuple[str, Tree | None]:
    """A layer's directory and the tree below it."""
    info = stores.snapshots.chain(stores.snapshots.by_chain_id(layer.chain_id))[-1]
    parent = stores.snapshots.parent(info.snapshot)
    lower = stores.snapshots.tree(parent) if parent is not None else None
    return stores.snapshots.layer_path(info), lower


def _write_stored(blob: LayerBlob, stores: Stores, write: Write) -> LayerBlob:
    hashed = sha256()
    with stores.content.open(blob.digest) as stored:
        while chunk := stored.read(_CHUNK):
            hashed.update(chunk)
            write(chunk)
    if "sha256:" + hashed.hexdigest() != blob.digest:
        stores.content.delete(blob.digest)
        raise StoreError(f"the blob {blob.digest} was damaged and has been removed", hint="try again")
    return blob


def _write_again(
    layer: Layer, blob: LayerBlob, stores: Stores, write: Write, method: Method, level: int | None
) -> LayerBlob:
    """The same tar in another compression."""
    from buildkit_py.layer.compress import compress_layer, decompressor

    def produce(out: Callable[[bytes], object]) -> None:
        with stores.content.open(blob.digest) as stored:
            tar = decompressor(stored)
            while chunk := tar.read(_CHUNK):
                out(chunk)

    made = compress_layer(produce, write, method, level=level)
    if made.diff_id != layer.diff_id:
        stores.content.delete(blob.digest)
        raise StoreError(f"the blob {blob.digest} was damaged and has been removed", hint="try again")
    again = LayerBlob(MEDIA_TYPES[method], made.digest, made.size)
    stores.images.remember_blob(layer.diff_id, again)
    return again


def _write_snapshot(
    layer: Layer, stores: Stores, write: Write, method: Method, level: int | None
) -> LayerBlob:
    from buildkit_py.layer.compress import compress_layer
    from buildkit_py.layer.diff import write_layer

    path, lower = _place(layer, stores)
    made: list[DiffID] = []

    def produce(out: Callable[[bytes], object]) -> None:
        made.append(write_layer(path, out, lower=lower))

    compressed = compress_layer(produce, write, method, level=level, diff_id=layer.diff_id)
    if made[0] != layer.diff_id:
        raise StoreError(
            f"the layer {layer.diff_id} has been changed in the store: it is now {made[0]}",
            hint="run `pybuild cache verify` and build again",
        )
    blob = LayerBlob(MEDIA_TYPES[method], compressed.digest, compressed.size)
    stores.images.remember_blob(layer.diff_id, blob)
    return blob
