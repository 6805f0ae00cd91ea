"""Images as bases: found here or in a registry, fetched and unpacked when a step first needs their files.

``resolve`` fetches documents alone: index, manifest, config. ``unpack`` fetches the layers that are not
unpacked yet, several at once, and unpacks each while it comes. A layer is believed when blob digest and
diff id are right; a layer that fails leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from buildkit_py import digest as digests
from buildkit_py.content.store import ContentStore
from buildkit_py.digest import ChainID, DiffID, Digest, SnapshotID
from buildkit_py.errors import ImageError, NotFoundError, PybuildError, RegistryError
from buildkit_py.image import reference
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.reference import Reference
from buildkit_py.image.store import Image, ImageStore
from buildkit_py.oci import documents, media, platform
from buildkit_py.progress.events import Emit, StatusEvent, ignore
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from buildkit_py.image.archive import BlobInPlace
    from buildkit_py.linux.identity import Identity
    from buildkit_py.llb.result import ResolvedImage
    from buildkit_py.registry.client import Fetched, RegistryClient
    from buildkit_py.snapshot.store import SnapshotStore
    from buildkit_py.source.arrival import Arrival

CONNECTIONS = 3
"""Layers that are fetched at once; more gain nothing and look rude to a registry."""
FOREIGN = "image-"
"""How the ids of snapshots begin that were unpacked from a blob. Packed again, they would make other tars."""
PREFERENCE = (media.OCI_LAYER_GZIP, media.OCI_LAYER_ZSTD, media.OCI_LAYER)
"""Which of several known blobs of a layer is taken: the one that everybody reads first."""
SHORT_ID = 12
"""Digits of an image id as they are listed; shorter text is never taken for one."""
_MAX_NESTING = 3
"""Indexes that point to indexes."""


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Layer(NamedTuple):
    """A layer of an image, as its manifest describes it; the diff id is the config's claim."""

    blob: LayerBlob
    diff_id: DiffID
    chain_id: ChainID


class ImageSources:
    """``client_factory`` is called when a registry is first needed."""

    def __init__(
        self,
        content: ContentStore,
        images: ImageStore,
        snapshots: SnapshotStore,
        client_factory: Callable[[], RegistryClient],
    ) -> None:
        self._content = content
        self._images = images
        self._snapshots = snapshots
        self._client_factory = client_factory
        self._client: RegistryClient | None = None
        self._identity: Identity | None = None
        self._resolved: dict[tuple[str, str, bool], ResolvedImage] = {}
        self.others: list[Callable[[LayerBlob], Iterator[bytes] | None]] = []
        """Further places to fetch blobs from, asked in turn: verified bytes, or None for one that has not got
        it."""
        self.files: list[Callable[[LayerBlob], BlobInPlace | None]] = []
        """Those where blobs are files, which are unpacked where they lie."""

    def use(self, identity: Identity) -> None:
        """Say who we are; before the first unpack."""
        self._identity = identity

    @property
    def client(self) -> RegistryClient:
        if self._client is None:
            self._client = self._client_factory()
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def resolve(self, ref: str, platform: str, pull: bool = False) -> ResolvedImage:
        """The image that a reference or image id means for a platform: the one that is here, else what its
        registry has. ``pull``: ask the registry in any case.

        An image that exists for one platform alone is taken whatever that is (its config tells).
        Raises NotFoundError, RegistryError, ImageError, UsageError.
        """
        key = (ref, platform, pull)
        if key not in self._resolved:
            image = self.find(ref, platform, pull)
            from buildkit_py.llb.result import ResolvedImage

            self._resolved[key] = ResolvedImage(ref, image.manifest or image.id, image.config)
        return self._resolved[key]

    def find(self, ref: str, wanted: str, pull: bool = False) -> Image:
        """As resolve(), the image itself."""
        image = self._images.match(ref, wanted, SHORT_ID)
        if image is not None and not pull:
            return image
        if digests.is_valid(ref):
            if image is None:
                raise NotFoundError(f"no such image: {ref}")
            return image
        name = reference.parse(ref)
        other = image or self._images.match(ref, least=SHORT_ID)
        if other is not None and other.manifest is None and not pull:
            return other
        try:
            return self._fetch(name, wanted, image)
        except (NotFoundError, RegistryError):
            if other is not None and not pull:
                return other
            raise

    def pull(self, ref: str, wanted: str, emit: Emit = ignore, vertex: str = "") -> Image:
        """Fetch what the registry has now, layers included, and unpack it.

        Where that fails, the name means what it did before. Raises as find() and unpack().
        """
        started = time.time()
        name = "" if digests.is_valid(ref) else _name(reference.parse(ref))
        before = self._images.meaning(name)
        image = self.find(ref, wanted, pull=True)
        try:
            self.unpack(image.manifest or image.id, emit, vertex)
        except BaseException:
            self._forget(image, name, before, new=image.created >= started)
            raise
        return image

    def _forget(
        self, image: Image, name: str, before: tuple[Digest, Literal["image", "index"]] | None, *, new: bool
    ) -> None:
        """Undo what naming an image changed. ``new``: nobody knew it under any name."""
        if before is not None:
            self._images.tag(name, *before)
        elif name and not new:
            self._images.drop_name(name)
        elif name:
            self._images.remove(name)
        if new and before is not None and not self._images.find(image.id).names:
            self._images.remove(image.id)

    def unpack(self, digest: Digest, emit: Emit = ignore, vertex: str = "") -> SnapshotID | None:
        """The snapshot of an image's files by manifest digest or image id; None for an image without layers.

        Raises NotFoundError where a layer is neither here nor in a registry, ImageError for a layer that
        is not what it should be, RegistryError, StoreError.
        """
        image = self._images.by_any_digest(digest)
        if image is None:
            raise NotFoundError(
                f"the image {digest} is not here any more", hint="build again; it will be fetched"
            )
        return self.unpack_layers(image.diff_ids, lambda: self.layers(image), emit, vertex)

    def unpack_layers(
        self,
        diff_ids: Sequence[DiffID],
        layers: Callable[[], Sequence[Layer]],
        emit: Emit = ignore,
        vertex: str = "",
    ) -> SnapshotID | None:
        """The snapshot of a stack of layers; ``layers`` is asked where not all of them are here.

        Raises as unpack().
        """
        chains = chain_ids(diff_ids)
        done = len(chains)
        parent: SnapshotID | None = None
        while done and (parent := self._snapshots.by_chain_id(chains[done - 1])) is None:
            done -= 1
        if done < len(chains):
            parent = self._unpack_above(list(layers())[done:], parent, emit, vertex)
        return parent

    def layers(self, image: Image) -> list[Layer]:
        """The layers as they can be fetched: by the manifest that the image came with, or, for one that
        was built here, by the blobs that it was pushed or loaded as. Raises NotFoundError without those."""
        manifest = self._images.manifest(image)
        if manifest is None:
            blobs = [self._known_blob(image, diff_id) for diff_id in image.diff_ids]
        else:
            blobs = [
                LayerBlob(media.LAYERS[d["mediaType"]], Digest(d["digest"]), d["size"])
                for d in manifest["layers"] or ()
            ]
        return [Layer(*each) for each in zip(blobs, image.diff_ids, chain_ids(image.diff_ids), strict=True)]

    def _known_blob(self, image: Image, diff_id: DiffID) -> LayerBlob:
        blob = self._images.layer_blob(diff_id, PREFERENCE)
        if blob is None:
            raise NotFoundError(
                f"the layers of image {image.id[7:19]} were removed from the store", hint="build it again"
            )
        return blob

    def missing(self, image: Image) -> list[Layer]:
        """The layers that unpack() would fetch."""
        layers = self.layers(image)
        done = len(layers)
        while done and self._snapshots.by_chain_id(layers[done - 1].chain_id) is None:
            done -= 1
        return [layer for layer in layers[done:] if not self._is_here(layer.blob)]

    def ensure_blob(self, blob: LayerBlob) -> bool:
        """Have a blob in the content store, from a registry where it is missing; False where none has it."""
        if self._content.hold(blob.digest) and self._content.size(blob.digest) == blob.size:
            return True
        try:
            with self._content.writer(hashing=False) as writer:
                for chunk in self._fetch_blob(blob):
                    writer.write(chunk)
                writer.commit(blob.digest)
        except (NotFoundError, RegistryError, ImageError):
            return False
        return True

    def _fetch_blob(self, blob: LayerBlob) -> Iterator[bytes]:
        """A blob from the first of the places that were seen to hold it. Called in any thread."""
        last: PybuildError = NotFoundError(
            f"the layer {blob.digest} is not here, and no registry is known that has it",
            hint="pull the image",
        )
        for registry, repository in self._images.origins(blob.digest):
            begun = False
            try:
                for chunk in self.client.blob(registry, repository, blob.digest, blob.size):
                    begun = True
                    yield chunk
                return
            except NotFoundError as e:
                self._images.forget_origin(blob.digest, registry, repository)
                last = e
            except RegistryError as e:
                last = e
            if begun:
                raise last
        for other in self.others:
            chunks = other(blob)
            if chunks is not None:
                yield from chunks
                return
        raise last

    # resolving

    def _fetch(self, ref: Reference, wanted: str, known: Image | None) -> Image:
        """Ask the registry; ``known`` is what we have under this name."""
        if known is not None and known.manifest is not None and self._unchanged(ref, known):
            return known
        fetched = self.client.fetch_manifest(ref.registry, ref.repository, ref.digest or ref.tag)
        image_id, manifest, index = self._fetch_image(ref, fetched, wanted)
        name = _name(ref)
        if index is not None:
            self._content.write(index.data)
            self._images.tag(name, index.digest, "index")
        else:
            self._images.tag(name, image_id)
        self._images.remember_repo_digest(ref.name, manifest, image_id)
        image = self._images.by_manifest(manifest)
        if image is None:
            raise NotFoundError(f"the image {ref} was removed while it was being fetched")
        return image

    def _unchanged(self, ref: Reference, known: Image) -> bool:
        """Whether a tag still means what we have. HEAD is free where GET counts against a limit."""
        if ref.digest:
            return True
        told = self.client.manifest_digest(ref.registry, ref.repository, ref.tag)
        return told is not None and self._images.is_target(str(ref), known, told)

    def _fetch_image(
        self, ref: Reference, fetched: Fetched, wanted: str
    ) -> tuple[Digest, Digest, Fetched | None]:
        """Store the documents of the image for a platform; (image id, manifest digest, the index that lists
        that manifest: the innermost of nested ones)."""
        from buildkit_py.oci import validate

        what = str(ref)
        target = platform.parse(wanted) if wanted else platform.host()
        index: Fetched | None = None
        for depth in range(_MAX_NESTING + 1):
            if not validate.is_index(fetched.data, fetched.media_type, f"the manifest of {what}"):
                break
            if depth == _MAX_NESTING:
                raise ImageError(f"{what} has indexes that are nested too deep")
            validate.index(fetched.data, f"the index of {what}")
            index = fetched
            entries = documents.index(fetched.data)["manifests"]
            entry = documents.select(entries, target)
            if entry is None:
                offered = ", ".join(documents.platforms(entries)) or "none that it names"
                raise NotFoundError(f"{what} is not made for {target}", hint=f"its platforms: {offered}")
            fetched = self.client.fetch_manifest(ref.registry, ref.repository, entry["digest"])
        checked = validate.manifest(fetched.data, f"the manifest of {what}")
        if checked.config.media_type not in media.CONFIGS:
            raise ImageError(
                f"{what} is no container image but an artifact ({checked.config.media_type[:100]!r})"
            )
        config = self.client.fetch_blob(
            ref.registry, ref.repository, Digest(checked.config.digest), checked.config.size
        )
        diff_ids = validate.config(config, f"the config of {what}").rootfs.diff_ids
        if len(diff_ids) != len(checked.layers):
            raise ImageError(f"{what} has {len(checked.layers)} layers, but its config names {len(diff_ids)}")
        for layer in checked.layers:
            self._images.remember_origin(Digest(layer.digest), ref.registry, ref.repository)
        return self._images.put(config, manifest=fetched.data), fetched.digest, index

    # unpacking

    def _unpack_above(
        self, layers: list[Layer], parent: SnapshotID | None, emit: Emit, vertex: str
    ) -> SnapshotID | None:
        from buildkit_py.source.download import Downloads

        with ExitStack() as stack:
            missing = [layer.blob for layer in layers if not self._is_here(layer.blob)]
            files = {blob.digest: stack.enter_context(f) for blob in missing if (f := self._file(blob))}
            coming = [blob for blob in missing if blob.digest not in files]
            downloads = Downloads(self._content, coming, self._fetch_blob, CONNECTIONS, emit, vertex)
            stack.enter_context(downloads)
            times = [layer.blob for layer in layers]
            for layer in layers:
                file = files.pop(layer.blob.digest, None)  # once: it has been read then
                if file is None:
                    arrival = downloads.arrival(layer.blob.digest)
                    parent = self._unpack_one(layer, parent, arrival, emit, vertex)
                    continue
                parent = self.unpack_stream(layer, parent, file, emit, vertex)
                if times.count(layer.blob) > 1 or not self.packs_again(parent):
                    self.ensure_blob(layer.blob)
        return parent

    def _file(self, blob: LayerBlob) -> BlobInPlace | None:
        return next((file for place in self.files if (file := place(blob)) is not None), None)

    def packs_again(self, snapshot: SnapshotID) -> bool:
        """Whether a layer's files make the tar that they came as: then we made it, here or elsewhere, and no
        blob of it need be kept."""
        from buildkit_py.layer.diff import diff_id

        info = self._snapshots.chain(snapshot)[-1]
        parent = self._snapshots.parent(snapshot)
        lower = self._snapshots.tree(parent) if parent is not None else None
        return diff_id(self._snapshots.layer_path(info), lower=lower) == info.diff_id

    def _is_here(self, blob: LayerBlob) -> bool:
        return self._content.hold(blob.digest) and self._content.size(blob.digest) == blob.size

    def _unpack_one(
        self, layer: Layer, parent: SnapshotID | None, arrival: Arrival | None, emit: Emit, vertex: str
    ) -> SnapshotID:
        if arrival is not None:
            return self.unpack_stream(layer, parent, arrival, emit, vertex)
        try:
            with self._content.open(layer.blob.digest) as stored:
                return self.unpack_stream(layer, parent, stored, emit, vertex)
        except ImageError:
            if self._is_sound(layer.blob.digest):
                raise
        # A blob that a power cut damaged: away with it, and once more from the registry.
        self._content.delete(layer.blob.digest)
        return self._unpack_above([layer], parent, emit, vertex)  # type: ignore[return-value]

    def _is_sound(self, digest: Digest) -> bool:
        from hashlib import file_digest

        with self._content.open(digest) as stored:
            return "sha256:" + file_digest(stored, "sha256").hexdigest() == digest  # type: ignore[arg-type]

    def unpack_stream(
        self, layer: Layer, parent: SnapshotID | None, stream: Stream, emit: Emit, vertex: str
    ) -> SnapshotID:
        """Unpack one layer onto another; ``stream`` is read to its end, and raises where it is not the blob.
        Raises ImageError where the layer is another one than its image says."""
        from buildkit_py.archive import compression
        from buildkit_py.layer.apply import apply_layer

        if self._identity is None:
            raise PybuildError("a layer is unpacked before the process has entered its identity")
        shown, started = f"extracting {layer.blob.digest}", time.time()
        emit(StatusEvent(vertex, shown, started=started))
        head, whole = compression.peek(stream, 6)
        lower = self._snapshots.tree(parent) if parent is not None else None
        with self._snapshots.prepare() as staged:
            tar = compression.decompressed(whole, compression.detect(head))
            try:
                found = apply_layer(tar, staged.fs, self._identity, staged.owners, lower=lower)
            except ImageError as e:
                raise ImageError(f"the layer {layer.blob.digest}: {e.message}", hint=e.hint) from e
            _drain(whole)
            if found != layer.diff_id:
                raise ImageError(
                    f"the layer {layer.blob.digest} unpacks to {found}; its image says {layer.diff_id}"
                )
            name = SnapshotID(FOREIGN + layer.chain_id[7:39])
            snapshot = self._snapshots.commit(staged, parent, diff_id=found, id=name)
        self._images.remember_blob(layer.diff_id, layer.blob)
        emit(StatusEvent(vertex, shown, started=started, completed=time.time()))
        return snapshot


def _name(ref: Reference) -> str:
    """Under which a reference is stored: a digest makes its tag meaningless."""
    return str(ref.with_digest(ref.digest) if ref.digest else ref)


def chain_ids(diff_ids: Sequence[DiffID]) -> list[ChainID]:
    """Of each layer of an image, bottom first (OCI config.md#layer-chainid)."""
    chains: list[ChainID] = []
    parent: ChainID | None = None
    for diff_id in diff_ids:
        parent = digests.chain_id(parent, diff_id)
        chains.append(parent)
    return chains


def _drain(stream: Stream) -> None:
    """Read to the end, where an arriving blob tells whether its digest was right."""
    while stream.read(1 << 20):
        pass
