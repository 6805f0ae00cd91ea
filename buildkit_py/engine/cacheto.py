"""``--cache-to``: a build's results as an index and blobs, written to where they are shared.

``mode=min``: the results that are layers of the targets; ``mode=max``: those of every step. A layer goes
compressed, as it does in a push: made while it is sent, remembered by its digest, and not sent where it is
already. The layers of a base image that a registry has stay there: the index names them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from buildkit_py.cache import shared
from buildkit_py.cache.backends import Backend, UnavailableError, Write, open_backend
from buildkit_py.cache.backends.options import Options, parse_options
from buildkit_py.cache.shared import SharedIndex, SharedLayer, SharedResult
from buildkit_py.digest import DiffID, Digest, SnapshotID
from buildkit_py.engine.build import Step
from buildkit_py.engine.diffs import layer_nodes
from buildkit_py.errors import NotFoundError
from buildkit_py.exporter import blobs
from buildkit_py.exporter.blobs import Layer
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.llb.graph import Graph, Node
from buildkit_py.llb.ops import Exec, File, GitSource, ImageSource, Merge
from buildkit_py.progress.events import Emit, StatusEvent, WarningEvent
from buildkit_py.registry.parallel import all_of
from buildkit_py.source.image import chain_ids
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.diffs import DiffIds
    from buildkit_py.engine.sharing import Sharing
    from buildkit_py.llb.result import FrontendResult
    from buildkit_py.request import CacheSpec

_MADE = (File, Exec, Merge, GitSource)
"""Ops whose results are kept under a key."""


class Result(NamedTuple):
    """A step's result as it is known here: in the store, or by the cache that promised it."""

    key: Digest
    definitions: tuple[Digest, ...]
    layers: tuple[Layer, ...]
    created: float


def results_of(
    engine: Engine, sharing: Sharing, nodes: Sequence[Node], diffs: DiffIds | None
) -> list[Result]:
    """The results of nodes that the store or a cache has. ``diffs`` takes diff ids that are not known;
    without it such results are left out."""
    found = []
    for node in nodes:
        key, definition = sharing.keys.get(node.digest), sharing.definitions.get(node.digest)
        if key is None or not isinstance(node.op, _MADE):
            continue
        definitions = (definition,) if definition is not None else ()
        made, promised = engine.index.made(key), sharing.result(key)
        if made is not None:
            layers = layers_of(engine, made[0], diffs)
        elif promised is not None:
            blobs_of = {layer.diff_id: layer.blob for layer in promised.layers}
            layers = _layers([layer.diff_id for layer in promised.layers], blobs_of)
        else:
            layers = None
        if layers is not None:
            created = promised.created if promised is not None else made[1] if made is not None else 0.0
            found.append(Result(key, definitions, layers, created))
    return found


def layers_of(engine: Engine, snapshot: SnapshotID, diffs: DiffIds | None) -> tuple[Layer, ...] | None:
    """None where a diff id isn't known and ``diffs`` is not there to take it."""
    diff_ids: list[DiffID] = []
    for info in engine.snapshots.chain(snapshot):
        if info.diff_id is None and diffs is None:
            return None
        diff_ids.append(info.diff_id or diffs.take(info.snapshot))  # type: ignore[union-attr]
    return _layers(diff_ids, {})


def _layers(diff_ids: Sequence[DiffID], known: Mapping[DiffID, LayerBlob]) -> tuple[Layer, ...]:
    chains = chain_ids(diff_ids)
    return tuple(Layer(d, chain, known.get(d)) for d, chain in zip(diff_ids, chains, strict=True))


def inline_field(
    engine: Engine, sharing: Sharing, graph: Graph, root: Digest, diff_ids: Sequence[str]
) -> dict[str, Any]:
    """The field of an image's config: the results that are the image's lowest layers."""
    chain = layer_nodes(graph, (root,))
    nodes = [n for n in graph.needed_for((root,)) if n.digest in chain]
    results = []
    for result in results_of(engine, sharing, nodes, None):
        own = [layer.diff_id for layer in result.layers]
        if own == list(diff_ids[: len(own)]):
            # The config knows nothing of blobs: how many layers they are is all that it says.
            layers = tuple(SharedLayer(d, LayerBlob("", Digest(""), 0)) for d in own)
            results.append(SharedResult(result.key, result.definitions, layers, result.created))
    return {shared.INLINE: shared.inline(results)}


def export(
    engine: Engine,
    spec: CacheSpec,
    sharing: Sharing,
    frontend: FrontendResult,
    diffs: DiffIds,
    emit: Emit,
) -> None:
    """Raises UsageError, RegistryError, StoreError, NotFoundError, ImageError."""
    from buildkit_py.engine.sharing import services

    options = parse_options(spec)
    graph = frontend.graph
    roots = tuple(t.root for t in frontend.targets if t.root is not None)
    nodes = graph.needed_for(roots)
    if options.mode == "min":
        chain = layer_nodes(graph, roots)
        nodes = [n for n in nodes if n.digest in chain]
    with Step(emit, f"exporting cache to {spec.kind}") as step:
        engine.enter()
        results = results_of(engine, sharing, nodes, diffs)
        backend = open_backend(spec, services(engine))
        try:
            writer = Writer(engine, backend, options, emit, step.event.digest)
            mounts = {}
            if options.mounts != frozenset():
                from buildkit_py.engine.sharedmounts import Mounts

                mounts = Mounts(engine, sharing, options, backend, emit, step.event.digest).write(graph)
            writer.write(results, base_layers(engine, graph), mounts)
        finally:
            backend.close()


def base_layers(engine: Engine, graph: Graph) -> dict[DiffID, SharedLayer]:
    """Layers of the images that the build starts from, where a registry is known to have them. Whoever hits
    a result above them has asked for the same image."""
    found: dict[DiffID, SharedLayer] = {}
    for node in graph.nodes.values():
        image = (
            engine.images.by_any_digest(Digest(node.op.digest)) if isinstance(node.op, ImageSource) else None
        )
        if image is None or image.manifest is None:
            continue
        for layer in engine.sources.layers(image):
            if engine.images.origins(layer.blob.digest):
                found[layer.diff_id] = SharedLayer(layer.diff_id, layer.blob, held=False)
    return found


class Writer:
    """Brings results to a cache."""

    def __init__(self, engine: Engine, backend: Backend, options: Options, emit: Emit, vertex: str) -> None:
        self._stores = engine.stores
        self._backend = backend
        self._options = options
        self._emit = emit
        self._vertex = vertex

    def write(
        self,
        results: Sequence[Result],
        elsewhere: Mapping[DiffID, SharedLayer],
        mounts: Mapping[Digest, SharedLayer],
    ) -> None:
        """``elsewhere``: layers that the index only names. ``mounts``: what is there of cache mounts."""
        index = self.blobs(results, elsewhere)
        index.mounts.update(mounts)
        self.index(index)

    def blobs(self, results: Sequence[Result], elsewhere: Mapping[DiffID, SharedLayer]) -> SharedIndex:
        """Write the blobs; the index of the results whose layers can all be had."""
        distinct = {layer.diff_id: layer for r in results for layer in r.layers}
        own = [layer for diff_id, layer in distinct.items() if diff_id not in elsewhere]
        made = all_of(own, self._layer, self._backend.writers)
        blobs_of = {o.diff_id: blob for o, blob in zip(own, made, strict=True) if blob is not None}
        layers = {d: SharedLayer(d, blob) for d, blob in blobs_of.items()} | dict(elsewhere)
        return SharedIndex(
            SharedResult(r.key, r.definitions, tuple(layers[x.diff_id] for x in r.layers), r.created)
            for r in results
            if all(layer.diff_id in layers for layer in r.layers)
        )

    def index(self, index: SharedIndex) -> None:
        shown, started = "writing cache manifest", time.time()
        self._emit(StatusEvent(self._vertex, shown, started=started))
        self._backend.write_index(*shared.encode(index))
        self._emit(StatusEvent(self._vertex, shown, started=started, completed=time.time()))

    def _layer(self, layer: Layer) -> LayerBlob | None:
        """None where it is nowhere any more: a base image's that was pruned, say."""
        options, started = self._options, time.time()
        known = layer.blob or blobs.known_blob(layer, self._stores, options.method, force=options.force)
        shown = f"writing layer {(known.digest if known else layer.diff_id)[7:19]}"
        self._emit(StatusEvent(self._vertex, shown, total=known.size if known else 0, started=started))
        if known is None or not self._backend.has(known):
            try:
                known = self._backend.write_blob(lambda write: self._make(layer._replace(blob=known), write))
            except UnavailableError as e:
                self._emit(WarningEvent(self._vertex, e.message))
                return None
        if self._backend.place is not None:
            self._stores.images.remember_origin(known.digest, *self._backend.place)
        self._emit(StatusEvent(self._vertex, shown, known.size, known.size, started, time.time()))
        return known

    def _make(self, layer: Layer, write: Write) -> LayerBlob:
        options = self._options
        try:
            return blobs.write_blob(
                layer, self._stores, write, options.method or "gzip", options.level, force=options.force
            )
        except NotFoundError as e:
            raise UnavailableError(e.message) from e
