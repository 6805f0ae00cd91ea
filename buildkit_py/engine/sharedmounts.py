"""Cache mounts (``RUN --mount=type=cache``) that go along with a shared cache.

A mount's content is one blob: the tar of its directory, compressed like a layer. It is taken out of the cache
when a step here first wants the mount and has none; what is here already stays.

``shared``, beside the mount's data, remembers what was last shared: ``{stamp, diffID}``. The stamp is a hash
over what stat says of every file; where it is the same, nothing is read again.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

import xxhash

from buildkit_py.cache.backends import Backend, Write
from buildkit_py.cache.backends.options import Options
from buildkit_py.cache.shared import SharedLayer
from buildkit_py.digest import DiffID, Digest, is_valid
from buildkit_py.errors import ImageError, PybuildError, StoreError
from buildkit_py.exporter.blobs import MEDIA_TYPES
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.layer.apply import apply_layer
from buildkit_py.layer.compress import compress_layer, decompressor
from buildkit_py.layer.diff import diff_id, write_tar
from buildkit_py.llb.graph import Graph, Node
from buildkit_py.llb.ops import Exec, Mount
from buildkit_py.progress.events import Emit, StatusEvent, ignore
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.source.image import PREFERENCE
from buildkit_py.typed import TYPE_CHECKING
from buildkit_py.worker import caches

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.sharing import Sharing

_TRIES = 3
_RACY_NS = 20_000_000
"""A file changed again within one tick of the kernel's clock looks unchanged."""


class Mounts:
    """Brings cache mounts to a cache."""

    def __init__(
        self,
        engine: Engine,
        sharing: Sharing,
        options: Options,
        backend: Backend,
        emit: Emit,
        vertex: str,
    ) -> None:
        self._engine = engine
        self._sharing = sharing
        self._options = options
        self._backend = backend
        self._emit = emit
        self._vertex = vertex

    def write(self, graph: Graph) -> dict[Digest, SharedLayer]:
        """The mounts of the graph's steps that are asked for. One that can't be read is told and left out."""
        found: dict[Digest, SharedLayer] = {}
        for node in graph.nodes.values():
            for mount in node.op.mounts if isinstance(node.op, Exec) else ():
                name = caches.shared_name(node, mount, self._sharing.keys) if self._wanted(mount) else None
                if name is None or name in found:
                    continue
                path = caches.place(self._engine.root, mount, self._start(node, mount))
                try:
                    if os.path.isdir(os.path.join(path, "data")):
                        found[name] = self._one(path, mount)
                    elif (layer := self._passed_on(name)) is not None:
                        found[name] = layer
                except StoreError as e:
                    self._sharing.warn(f"the cache mount {mount.id} is not shared: {e.message}", self._vertex)
        return found

    def _wanted(self, mount: Mount) -> bool:
        ids = self._options.mounts
        return mount.kind == "cache" and (ids is None or mount.id in ids)

    def _start(self, node: Node, mount: Mount) -> object:
        """What a mount with ``from=`` began as: the snapshot of that input."""
        key = self._sharing.keys.get(node.inputs[mount.input]) if mount.input >= 0 else None
        made = self._engine.index.made(key) if key is not None else None
        return made[0] if made is not None else None

    def _one(self, path: str, mount: Mount) -> SharedLayer:
        shown, started = f"writing cache mount {mount.id}", time.time()
        self._emit(StatusEvent(self._vertex, shown, started=started))
        # Steps that have the cache locked or for themselves are waited for; others may write to it.
        held = caches.lock(path, fcntl.LOCK_SH)
        try:
            layer = self._unchanged(path) or self._made(path)
        finally:
            os.close(held)
        size = layer.blob.size
        self._emit(StatusEvent(self._vertex, shown, size, size, started, time.time()))
        return layer

    def _passed_on(self, name: Digest) -> SharedLayer | None:
        """What a cache had of a mount that no step here wanted."""
        source, layer = next(self._sharing.mounts(name), (None, None))
        if source is not None and layer is not None and not self._backend.has(layer.blob):
            self._backend.write_blob(lambda write: _copied(source, layer.blob, write))
        return layer

    def _unchanged(self, path: str) -> SharedLayer | None:
        """As it was shared before, if it is there and still the same."""
        known = _recall(path, _stamp(os.path.join(path, "data"))[0])
        if known is None:
            return None
        method = self._options.method
        types = PREFERENCE if method is None else (MEDIA_TYPES[method],)
        blob = self._engine.images.layer_blob(known, types)
        return SharedLayer(known, blob) if blob is not None and self._backend.has(blob) else None

    def _made(self, path: str) -> SharedLayer:
        for attempt in range(_TRIES):
            try:
                return self._sent(path)
            except StoreError:
                if attempt + 1 == _TRIES:
                    raise
        raise AssertionError("unreachable")

    def _sent(self, path: str) -> SharedLayer:
        data, started = os.path.join(path, "data"), time.time_ns()
        stamp, newest = _stamp(data)
        layer = sent(self._engine, self._backend, data, self._options)
        if newest < started - _RACY_NS and _stamp(data)[0] == stamp:
            remember(path, stamp, layer.diff_id)
        return layer


def sent(engine: Engine, backend: Backend, data: str, options: Options) -> SharedLayer:
    """Bring a cache mount's directory to a cache. Raises StoreError where it changes meanwhile, or has a name
    that no layer can hold."""
    method = options.method or "gzip"
    # Read twice where it is new: whether it has to be sent is told by its digest.
    digest = diff_id(data)
    blob = engine.images.layer_blob(digest, (MEDIA_TYPES[method],))
    if blob is None or not backend.has(blob):

        def make(write: Write) -> LayerBlob:
            made = compress_layer(lambda out: write_tar(data, out), write, method, level=options.level)
            if made.diff_id != digest:
                raise StoreError("it changes while it is read")
            return LayerBlob(MEDIA_TYPES[method], made.digest, made.size)

        blob = backend.write_blob(make)
        engine.images.remember_blob(digest, blob)
    return SharedLayer(digest, blob)


def _copied(source: Backend, blob: LayerBlob, write: Write) -> LayerBlob:
    for chunk in source.read_blob(blob):
        write(chunk)
    return blob


def unpack(engine: Engine, backend: Backend, layer: SharedLayer, path: str, folder: str) -> None:
    """Fill the folder of a new cache mount. Raises PybuildError; the folder is empty then."""
    from buildkit_py.source.arrival import Arrival

    if engine.content.hold(layer.blob.digest):
        unpack_stored(engine, layer, path, folder)
        return
    arrival = Arrival(engine.content, layer.blob.digest, layer.blob.size)
    try:
        arrival.receive(backend.read_blob(layer.blob), ignore, "")
        arrival.wait()
        unpack_stored(engine, layer, path, folder)
    finally:
        arrival.close()
        engine.content.delete(layer.blob.digest)


def unpack_stored(engine: Engine, layer: SharedLayer, path: str, folder: str) -> None:
    """As unpack(), of a blob that is in the content store."""
    try:
        with engine.content.open(layer.blob.digest) as stored:
            found = apply_layer(decompressor(stored), folder, engine.identity, Owners())
        if found != layer.diff_id:
            raise ImageError(f"its blob unpacks to {found}, not to {layer.diff_id}")
    except PybuildError:
        remove_tree(folder)
        os.mkdir(folder)
        raise
    engine.images.remember_blob(layer.diff_id, layer.blob)
    remember(path, _stamp(folder)[0], layer.diff_id)


def _recall(path: str, stamp: str) -> DiffID | None:
    try:
        with open(os.path.join(path, "shared"), encoding="utf-8") as f:
            known = json.load(f)
        if known["stamp"] == stamp and is_valid(known["diffID"]):
            return DiffID(known["diffID"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def remember(path: str, stamp: str, digest: DiffID) -> None:
    staged = os.path.join(path, f"shared.{os.urandom(4).hex()}")
    with open(staged, "w", encoding="utf-8") as f:
        json.dump({"stamp": stamp, "diffID": digest}, f)
    os.rename(staged, os.path.join(path, "shared"))


def _stamp(data: str) -> tuple[str, int]:
    """(hash over what stat says of all below a directory, the newest ctime in ns). Raises StoreError."""
    hashed, newest = xxhash.xxh3_128(), 0
    todo = [data]
    try:
        while todo:
            folder = todo.pop()
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            for entry in entries:
                st = entry.stat(follow_symlinks=False)
                newest = max(newest, st.st_ctime_ns)
                fields = (
                    st.st_mode,
                    st.st_uid,
                    st.st_gid,
                    st.st_size,
                    st.st_mtime_ns,
                    st.st_ctime_ns,
                    st.st_ino,
                )
                hashed.update(f"{entry.path[len(data) :]}\0{fields}\0".encode("utf-8", "surrogateescape"))
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
    except OSError as e:
        raise StoreError(f"it changes while it is read: {e.strerror}") from e
    return hashed.hexdigest(), newest
