"""The shared caches of one build: what ``--cache-from`` finds, what ``--cache-to`` leaves.

An index is read when the first step misses here, and nothing else until a hit. A hit is a promise: a step
that needs the files fetches them then, layer by layer, into the store; where an image is only pushed, nobody
may ever need them. A promise that isn't kept (a blob is gone or damaged) takes the cache out of the build,
which begins anew; what was made meanwhile is in the local cache.

Nothing that goes wrong with a shared cache fails the build, unless ``ignore-error=false`` says so.
"""

from __future__ import annotations

from _thread import allocate_lock  # what threading.Lock is, without importing threading
from collections.abc import Iterator, Mapping

from buildkit_py.cache.backends import (
    Backend,
    Services,
    check_source,
    check_target,
    open_backend,
)
from buildkit_py.cache.backends.options import parse_options
from buildkit_py.cache.shared import SharedIndex, SharedLayer, SharedResult
from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.engine.build import INLINE_CACHE, Step
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.exporter import Product
from buildkit_py.image import assemble
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.llb.graph import Node
from buildkit_py.llb.result import BuildTarget, FrontendResult
from buildkit_py.progress.events import Emit, Event, StatusEvent, VertexEvent, WarningEvent
from buildkit_py.request import BuildRequest, BuildResult, BuildWarning, CacheSpec, Output
from buildkit_py.solver.types import Key
from buildkit_py.source.image import Layer, chain_ids
from buildkit_py.typed import TYPE_CHECKING, Any
from buildkit_py.worker.context import BuildContext, Promised
from buildkit_py.worker.handler import step_name

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.build import Build
    from buildkit_py.engine.diffs import DiffIds
    from buildkit_py.image.archive import BlobInPlace

_YES = ("1", "true", "t")
_LAZY = frozenset({"push", "name", "oci-mediatypes"})
"""Fields of an output that can be made of layers that are not here."""


class Source:
    """One ``--cache-from``, read when it is first asked."""

    def __init__(self, backend: Backend, index: SharedIndex, mounts: bool) -> None:
        self.backend = backend
        self.index = index
        self.mounts = mounts
        """Whether its cache mounts are used, too."""
        self.held = {layer.blob.digest for layer in index.blobs() if layer.held}

    def drop(self) -> None:
        self.index = SharedIndex()
        self.held = set()


class Sharing:
    """Implements buildkit_py.worker.context.SharedCaches. Made where a build asks for a shared cache."""

    def __init__(self, engine: Engine, request: BuildRequest, emit: Emit) -> None:
        """Raises UsageError for options that make no sense."""
        self._engine = engine
        self._display = emit
        self._attempt = 1
        self.emit: Emit = self.display
        """Where events go; they must come to ``display`` in the end."""
        self._specs = request.cache_from
        self._targets = targets(request)
        for spec in self._specs:
            check_source(spec)
        for spec in self._targets:
            check_target(spec)
            parse_options(spec)
        self._outputs = request.outputs
        self._sources: list[Source] | None = None
        self._reading, self._fetching = allocate_lock(), allocate_lock()
        self._lost = False
        # Packages are found in files, and layers are squashed by them.
        self._lazy = not (request.squash or any(spec.kind == "sbom" for spec in request.attests))
        self._promised = False
        """Whether the roots were left unfetched."""
        self.keys: Mapping[Digest, Digest] = {}
        """Node -> cache key, once the build is solved; so is this:"""
        self.definitions: Mapping[Digest, Digest] = {}
        self.warnings: list[BuildWarning] = []
        if self._specs:
            engine.sources.others.append(self._blob)
            engine.sources.files.append(self._file)

    def display(self, event: Event) -> None:
        """Pass an event on. A display takes a step that has ended for done, so those of a build that begins
        anew are other steps to it."""
        if self._attempt > 1:
            mark = f"/{self._attempt}"
            if isinstance(event, VertexEvent):
                inputs = tuple(i + mark for i in event.inputs)
                event = event._replace(digest=event.digest + mark, inputs=inputs)
            elif event.vertex:
                event = event._replace(vertex=event.vertex + mark)
        self._display(event)

    # --cache-from

    def find(self, node: Node, key: Key) -> Promised | None:
        for source in self._read():
            result = source.index.results.get(key.digest)
            if result is not None and result.layers:
                self._note_origins(source, result)
                return Promised(key, layers_of(result), node.meta.name, step_name(node), result.created)
        return None

    def created(self, key: Digest) -> float | None:
        self._read()
        result = self.result(key)
        return result.created if result is not None and result.layers else None

    def definition(self, definition: Digest) -> Key | None:
        for source in self._read():
            key = source.index.definitions.get(definition)
            if key is not None and source.index.results[key].layers:
                return Key(key, {})
        return None

    def result(self, key: Digest) -> SharedResult | None:
        """What the caches that were read have under a key; reads none."""
        for source in self._sources or ():
            if key in source.index.results:
                return source.index.results[key]
        return None

    def fetch(self, promised: Promised) -> SnapshotID | None:
        diff_ids = [layer.diff_id for layer in promised.layers]
        with self._fetching, Step(self.emit, f"fetching cached {promised.name}") as step:
            try:
                snapshot = self._engine.sources.unpack_layers(
                    diff_ids, lambda: promised.layers, self.emit, step.event.digest
                )
            except PybuildError as e:
                self._lose(promised.key.digest, e)
                raise
        if snapshot is not None:
            self._engine.index.put(
                promised.key, snapshot, name=promised.name, step=promised.step, created=promised.created
            )
        return snapshot

    def fill(self, name: Digest, path: str, folder: str) -> bool:
        for backend, layer in self.mounts(name):
            from buildkit_py.engine.sharedmounts import unpack

            try:
                unpack(self._engine, backend, layer, path, folder)
            except PybuildError as e:
                self.warn(f"a cache mount of {backend.shown} is not used: {e.message}")
                continue
            return True
        return False

    def mounts(self, name: Digest) -> Iterator[tuple[Backend, SharedLayer]]:
        """What the caches have of a cache mount."""
        for source in self._read():
            layer = source.index.mounts.get(name) if source.mounts else None
            if layer is not None:
                yield source.backend, layer

    def _read(self) -> list[Source]:
        with self._reading:
            if self._sources is None:
                self._sources = [s for s in map(self._open, self._specs) if s is not None]
            return self._sources

    def _open(self, spec: CacheSpec) -> Source | None:
        shown = spec.get("ref") or spec.get("src") or spec.get("name") or spec.kind
        with Step(self.emit, f"importing cache manifest from {shown}") as step:
            try:
                backend = open_backend(spec, services(self._engine))
                index = backend.read_index()
            except PybuildError as e:
                self.warn(f"the cache {shown} is not used: {e.message}", step.event.digest)
                return None
            if index is None:
                self.emit(StatusEvent(step.event.digest, "there is no cache so far"))
                return None
            return Source(backend, index, spec.get("mounts", "true").lower() not in ("false", "0"))

    def _note_origins(self, source: Source, result: SharedResult) -> None:
        """A push to the same registry can then mount the blobs."""
        place = source.backend.place
        for layer in result.layers if place is not None else ():
            if layer.held and place is not None:
                self._engine.images.remember_origin(layer.blob.digest, *place)

    def _blob(self, blob: LayerBlob) -> Iterator[bytes] | None:
        for source in self._sources or ():
            if blob.digest in source.held:
                return source.backend.read_blob(blob)
        return None

    def _file(self, blob: LayerBlob) -> BlobInPlace | None:
        from buildkit_py.cache.backends.local import LocalBackend

        for source in self._sources or ():
            if blob.digest in source.held and isinstance(source.backend, LocalBackend):
                try:
                    return source.backend.file(blob)
                except PybuildError:
                    continue  # whoever fetches it says so
        return None

    def _lose(self, key: Digest, error: PybuildError) -> None:
        for source in self._sources or ():
            if key in source.index.results:
                shown = source.backend.shown
                self.warn(f"the cache {shown} is given up: {error.message}; what it had is built instead")
                source.drop()
                self._lost = True

    def retry(self, error: PybuildError) -> bool:
        """Whether a build that failed should begin anew, as a cache did not keep a promise."""
        if self._lost:
            self._lost = False
            self._attempt += 1
            return True
        if self._promised and isinstance(error, NotFoundError):
            # A push missed a blob: now fetch before pushing, which finds out whose it is.
            self._lazy, self._promised = False, False
            self._attempt += 1
            return True
        return False

    def solved(self, results: dict[Digest, Any], context: BuildContext) -> dict[Digest, Any]:
        """The roots' results, fetched where an output reads files. Raises what keeps them from that."""
        self.keys, self.definitions = context.keys, context.definitions
        results = self._settled(results)
        self._keep(context)
        return results

    def _settled(self, results: dict[Digest, Any]) -> dict[Digest, Any]:
        promised = [r for r in results.values() if isinstance(r, Promised)]
        if not promised:
            return results
        if self._lazy and all(map(_is_lazy, self._outputs)) and self._outputs:
            self._promised = True
            return results
        self._engine.enter()
        return {d: self.fetch(r) if isinstance(r, Promised) else r for d, r in results.items()}

    def _keep(self, context: BuildContext) -> None:
        """With a result those of the steps below it came too: keep them under their keys."""
        index = self._engine.index
        for node in context.graph.nodes.values() if self._sources else ():
            key = self.keys.get(node.digest)
            result = None if key is None or index.get(key) is not None else self.result(key)
            if key is None or result is None or not result.layers:
                continue
            chain = chain_ids([layer.diff_id for layer in result.layers])[-1]
            snapshot = self._engine.snapshots.by_chain_id(chain)
            if snapshot is not None:
                name, step = node.meta.name, step_name(node)
                index.put(Key(key, {}), snapshot, name=name, step=step, created=result.created)
                if node.digest in self.definitions:
                    index.put_alias(self.definitions[node.digest], key)

    # --cache-to

    def product(
        self, build: Build, target: BuildTarget, result: Any, vertex: str
    ) -> tuple[BuildTarget, Product | None]:
        """The target with an inline cache in its config, and, where its layers are only promised, what
        exporters get instead of a snapshot."""
        promised = result if isinstance(result, Promised) else None
        inline = any(spec.kind == "inline" for spec in self._targets)
        if promised is not None:
            diff_ids = tuple(layer.diff_id for layer in promised.layers)
        elif inline:
            diff_ids = build.diffs.wait(result, self.emit, vertex)
        if inline and target.root is not None:
            from buildkit_py.engine.cacheto import inline_field

            field = inline_field(self._engine, self, build.frontend.graph, target.root, diff_ids)
            target = target._replace(config=target.config | field)
        if promised is None:
            return target, None
        config = assemble.config_bytes(target.config, diff_ids)
        manifest = assemble.manifest_bytes(config, [layer.blob for layer in promised.layers])
        return target, Product(target.platform, None, config, build.request.tags, manifest)

    def export(self, result: BuildResult, frontend: FrontendResult, diffs: DiffIds) -> BuildResult:
        """The build's result, with what was warned of. Raises what goes wrong where a target has
        ``ignore-error=false``."""
        for spec in self._targets:
            if spec.kind == "inline":
                continue
            from buildkit_py.engine.cacheto import export

            try:
                export(self._engine, spec, self, frontend, diffs, self.emit)
            except PybuildError as e:
                if spec.get("ignore-error", "true").lower() in ("false", "0"):
                    raise
                self.warn(f"the cache was not exported (type={spec.kind}): {e.message}")
        return result._replace(warnings=(*result.warnings, *self.warnings))

    def warn(self, message: str, vertex: str = "") -> None:
        self.warnings.append(BuildWarning(message))
        self.emit(WarningEvent(vertex, message))


def targets(request: BuildRequest) -> tuple[CacheSpec, ...]:
    """Every ``--cache-to``; the build argument of old asks for an inline one."""
    given = request.cache_to
    asked = dict(request.build_args).get(INLINE_CACHE, "").lower() in _YES
    if asked and not any(spec.kind == "inline" for spec in given):
        given = (*given, CacheSpec("inline"))
    return given


def services(engine: Engine) -> Services:
    return Services(lambda: engine.sources.client, engine.images.origins, engine.content.stage)


def layers_of(result: SharedResult) -> tuple[Layer, ...]:
    chains = chain_ids([layer.diff_id for layer in result.layers])
    return tuple(
        Layer(layer.blob, layer.diff_id, chain) for layer, chain in zip(result.layers, chains, strict=True)
    )


def _is_lazy(output: Output) -> bool:
    if output.kind == "cacheonly":
        return True
    pushes = output.get("push") in ("true", "1", "")
    fields = dict(output.attributes)
    return output.kind == "image" and pushes and "push" in fields and fields.keys() <= _LAZY
