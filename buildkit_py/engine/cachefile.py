"""``pybuild cache export`` and ``cache import``: the whole cache as one file, for a machine that shares no
network with this one.

The file is an OCI image layout in a tar, which holds what a shared cache holds (buildkit_py.cache.shared),
the layers of base images too, and the names of steps. What is imported is unpacked at once, as the file may
be gone later, and straight out of the file: of a layer that pybuild made the files are all that is kept.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack

from buildkit_py.cache import shared, sharedread
from buildkit_py.cache.backends.options import Options
from buildkit_py.cache.shared import MountPlace, SharedIndex
from buildkit_py.digest import Digest, of_bytes
from buildkit_py.engine.build import Step
from buildkit_py.engine.cacheto import Result, Writer, layers_of
from buildkit_py.engine.diffs import DiffIds
from buildkit_py.engine.timestamps import STEP as TIMESTAMPS
from buildkit_py.errors import ImageError, PybuildError, StoreError
from buildkit_py.exporter import output
from buildkit_py.exporter.sinks import TarSink
from buildkit_py.image import archive, assemble
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.llb.graph import Graph
from buildkit_py.llb.ops import Mount
from buildkit_py.oci import documents, media, validate
from buildkit_py.progress.events import Emit, WarningEvent
from buildkit_py.solver.types import Key
from buildkit_py.source.image import Layer
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING
from buildkit_py.worker import caches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_py.cache.backends import Make
    from buildkit_py.content.store import ContentStore
    from buildkit_py.digest import SnapshotID
    from buildkit_py.engine import Engine
    from buildkit_py.layer.compress import Method

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class Moved(NamedTuple):
    """What an export or import moved."""

    steps: int
    mounts: int


class FileBackend:
    """A cache in an archive that is being written (buildkit_py.cache.backends.Backend, the writing half)."""

    def __init__(self, sink: TarSink, shown: str) -> None:
        self._sink = sink
        self.shown = shown
        self.place: tuple[str, str] | None = None
        self.writers = 1
        sink.folder("blobs")
        sink.folder("blobs/sha256")
        sink.file("oci-layout", _LAYOUT)

    def read_index(self) -> SharedIndex | None:
        return None

    def has(self, blob: LayerBlob) -> bool:
        return False

    def read_blob(self, blob: LayerBlob) -> Iterator[bytes]:
        raise AssertionError("an archive is written from the beginning to the end")

    def write_blob(self, make: Make) -> LayerBlob:
        return self._sink.blob(make)

    def write_index(self, config: bytes, manifest: bytes) -> None:
        for data in (config, manifest):
            self._sink.file(f"blobs/sha256/{of_bytes(data)[7:]}", data)
        entry = assemble.descriptor(media.OCI_MANIFEST, of_bytes(manifest), len(manifest))
        self._sink.index(assemble.index_bytes([entry]))
        self._sink.close()

    def close(self) -> None:
        pass


def export(engine: Engine, dest: str, emit: Emit, method: Method, mounts: bool) -> Moved:
    """Write every result of the cache to a file or (``-``) standard output. Raises UsageError, StoreError."""
    engine.share()
    engine.enter()
    with ExitStack() as stack:
        step = stack.enter_context(Step(emit, f"exporting cache to {dest}"))
        fd = stack.enter_context(output.opened(dest, engine.content))
        backend = FileBackend(TarSink(fd), dest)
        writer = Writer(engine, backend, Options(method=method), emit, step.event.digest)
        names: dict[Digest, str] = {}
        index = writer.blobs(_results(engine, names), {})
        index.names = {key: name for key, name in names.items() if key in index.results}
        if mounts:
            _add_mounts(engine, index, backend, method, emit, step.event.digest)
        writer.index(index)
        return Moved(len(index.results), len(index.mounts))


def _results(engine: Engine, names: dict[Digest, str]) -> list[Result]:
    diffs = DiffIds(engine.snapshots, Graph(), (), engine.enter)
    definitions: dict[Digest, list[Digest]] = {}
    for definition, key in engine.index.aliases():
        definitions.setdefault(key, []).append(definition)
    results = []
    for record in engine.index.records():
        # A layer whose times were rewritten is known by snapshots of this store.
        if record.name == TIMESTAMPS or not engine.snapshots.exists(record.snapshot):
            continue
        layers = layers_of(engine, record.snapshot, diffs)
        if layers is not None:
            names[record.key] = record.name
            known = tuple(definitions.get(record.key, ()))
            results.append(Result(record.key, known, layers, record.created))
    return results


def _add_mounts(
    engine: Engine, index: SharedIndex, backend: FileBackend, method: Method, emit: Emit, vertex: str
) -> None:
    from buildkit_py.engine import sharedmounts

    root = os.path.join(engine.root, "cache-mounts")
    for folder in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        path = os.path.join(root, folder)
        try:
            id, start = _written(path, "id"), Digest(_written(path, "start")) or None
            data = os.path.join(path, "data")
            if _place(engine, id, start) != path or not os.path.isdir(data):
                continue  # a private copy, or what it began as is gone
            held = caches.lock(path, fcntl.LOCK_SH)
            try:
                layer = sharedmounts.sent(engine, backend, data, Options(method=method))
            finally:
                os.close(held)
        except (OSError, StoreError) as e:
            emit(WarningEvent(vertex, f"the cache mount in {folder} is left out: {e}"))
            continue
        st = os.stat(data)
        name = caches.plain_name(id, start or "")
        index.mounts[name] = layer
        index.places[name] = MountPlace(id, st.st_mode & 0o7777, st.st_uid, st.st_gid, start)


def _written(path: str, part: str) -> str:
    """What a file in a cache mount's directory says; "" where there is none."""
    try:
        with open(os.path.join(path, part), encoding="utf-8", errors="surrogateescape") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def _place(engine: Engine, id: str, start: Digest | None) -> str:
    """The directory of a cache mount; "" where the result that it begins as is not here."""
    if start is None:
        return caches.place(engine.root, Mount("cache", "/", id=id), None)
    snapshot = engine.index.get(start)
    return caches.place(engine.root, Mount("cache", "/", id=id, input=0), snapshot) if snapshot else ""


def import_(engine: Engine, source: str, emit: Emit) -> Moved:
    """Take a file (``-``: standard input) into the cache. A result that can't be unpacked is left out.

    Raises UsageError, ImageError, StoreError.
    """
    engine.share()
    engine.enter()
    with Step(emit, f"importing cache from {source}") as step:
        vertex = step.event.digest
        with ExitStack() as stack:
            brought: archive.Archive
            if source != "-" and (found := archive.in_place(engine.content, source)) is not None:
                stack.callback(found.close)
                brought = found
            else:
                brought = archive.opened(engine.content, source)
            kept: set[Digest] = set()
            try:
                index = _index(engine.content, brought, source)
                steps = _take(engine, index, brought, kept, emit, vertex)
                mounts = sum([_take_mount(engine, index, n, brought, emit, vertex) for n in index.places])
            finally:
                brought.keep(kept | engine.images.referenced())
    return Moved(steps, mounts)


def _index(content: ContentStore, brought: archive.Archive, source: str) -> SharedIndex:
    what = f"the cache file {source}"
    data = archive.document(brought, content, "index.json")
    if data is None:
        raise ImageError(f"{source} is no cache file", hint="`pybuild cache export FILE` writes one")
    validate.index(data, what)
    for entry in documents.index(data)["manifests"]:
        manifest = validate.decode(
            archive.blob(brought, content, entry["digest"]), validate.Manifest, f"a manifest of {source}"
        )
        if manifest.config.media_type == shared.CONFIG_TYPE:
            return sharedread.decode(archive.blob(brought, content, manifest.config.digest), what)
    raise ImageError(f"{source} has no cache in it", hint="images are taken in by `pybuild load`")


def _take(
    engine: Engine, index: SharedIndex, brought: archive.Archive, kept: set[Digest], emit: Emit, vertex: str
) -> int:
    from buildkit_py.engine.sharing import layers_of

    count = 0
    with _Unpacker(engine, brought, kept, emit, vertex) as unpacker:
        for result in index.results.values():
            try:
                snapshot = unpacker.unpack(layers_of(result))
            except PybuildError as e:
                emit(WarningEvent(vertex, f"a step is left out: {e.message}"))
                continue
            if snapshot is None:
                continue
            if engine.index.made(result.key) is None:
                name = index.names.get(result.key, "")
                engine.index.put(Key(result.key, {}), snapshot, name=name, step="", created=result.created)
            for definition in result.definitions:
                engine.index.put_alias(definition, result.key)
            count += 1
    return count


class _Unpacker:
    """Unpacks layers, out of the file where that can be, and sees to it that they can be packed again:
    where that gives another tar than they came as, their blobs are kept."""

    def __init__(
        self, engine: Engine, brought: archive.Archive, kept: set[Digest], emit: Emit, vertex: str
    ) -> None:
        from concurrent.futures import Future, ThreadPoolExecutor

        self._engine = engine
        self._brought = brought
        self._kept = kept
        self._emit = emit
        self._vertex = vertex
        self._checks: dict[Layer, Future[bool]] = {}
        self._pool = ThreadPoolExecutor(1, "pack again")

    def __enter__(self) -> _Unpacker:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        for layer, check in self._checks.items() if kind is None else ():
            if not check.result():
                archive.require(self._brought, self._engine.content, layer.blob.digest, layer.blob.size)
                self._kept.add(layer.blob.digest)

    def unpack(self, layers: tuple[Layer, ...]) -> SnapshotID | None:
        """Raises PybuildError."""
        parent: SnapshotID | None = None
        done = len(layers)
        while done and (parent := self._engine.snapshots.by_chain_id(layers[done - 1].chain_id)) is None:
            done -= 1
        for layer in layers[done:]:
            parent = self._one(layer, parent)
            self._checks[layer] = self._pool.submit(self._packs_again, parent)
        return parent

    def _one(self, layer: Layer, parent: SnapshotID | None) -> SnapshotID:
        engine, brought = self._engine, self._brought
        if isinstance(brought, archive.TarInPlace):
            blob = brought.blob(layer.blob.digest, layer.blob.size)
            if blob is None:
                raise ImageError(f"the archive lacks the blob {layer.blob.digest}")
            with blob:
                return engine.sources.unpack_stream(layer, parent, blob, self._emit, self._vertex)
        archive.require(brought, engine.content, layer.blob.digest, layer.blob.size)
        with engine.content.open(layer.blob.digest) as stored:
            return engine.sources.unpack_stream(layer, parent, stored, self._emit, self._vertex)

    def _packs_again(self, snapshot: SnapshotID) -> bool:
        try:
            return self._engine.sources.packs_again(snapshot)
        except PybuildError:
            return False


def _take_mount(
    engine: Engine, index: SharedIndex, name: Digest, brought: archive.Archive, emit: Emit, vertex: str
) -> bool:
    """Make a cache mount that is not here."""
    from buildkit_py.engine import sharedmounts

    place, layer = index.places[name], index.mounts.get(name)
    path = _place(engine, place.id, place.start)
    if layer is None or not path or os.path.isdir(os.path.join(path, "data")):
        return False
    try:
        archive.require(brought, engine.content, layer.blob.digest, layer.blob.size)

        def fill(folder: str) -> bool:
            sharedmounts.unpack_stored(engine, layer, path, folder)
            return True

        attributes = (place.mode, place.uid, place.gid)
        caches.make(engine.identity, path, place.id, attributes, fill, place.start)
    except PybuildError as e:
        emit(WarningEvent(vertex, f"a cache mount is left out: {e.message}"))
        return False
    return True
