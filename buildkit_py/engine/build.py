"""One build, from the request to the exported image. The functions stand in the order of the work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from buildkit_py.digest import Digest, of_bytes
from buildkit_py.engine.contexts import BuildFiles, Locals
from buildkit_py.engine.diffs import DiffIds
from buildkit_py.engine.settings import proxies
from buildkit_py.errors import DockerfileError, StepError, UsageError
from buildkit_py.exporter import Product
from buildkit_py.frontends.dockerfile.convert import ConvertOptions, convert
from buildkit_py.frontends.dockerfile.parser import parse
from buildkit_py.image import reference
from buildkit_py.image.assemble import config_bytes
from buildkit_py.llb.result import BuildTarget, FrontendResult
from buildkit_py.progress.events import Emit, StatusEvent, VertexEvent, WarningEvent
from buildkit_py.request import BuildRequest, BuildResult, BuildWarning, Output
from buildkit_py.solver.solve import solve
from buildkit_py.source.inline import InlineTree
from buildkit_py.worker.context import BuildContext, Secret
from buildkit_py.worker.worker import Worker

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


class Step:
    """A vertex of the build that is not a node of the graph, with its own log line and time."""

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self.event = VertexEvent(f"internal:{name}", name, started=time.time())

    def __enter__(self) -> Step:
        self._emit(self.event)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        text = "" if error is None else str(error) or type(error).__name__
        self._emit(self.event._replace(completed=time.time(), error=text))


def build(engine: Engine, request: BuildRequest, emit: Emit) -> BuildResult:
    """Raises DockerfileError, StepError and what the parts raise."""
    refuse(request)
    engine.share()
    files = BuildFiles.open(request, engine, emit)
    try:
        frontend = load(engine, request, files, emit)
        with placed(files):
            results, diffs = run(engine, request, files, frontend, emit)
        return finish(engine, request, files, frontend, results, diffs, emit)
    finally:
        files.close()


def refuse(request: BuildRequest) -> None:
    """Refuse by name what this version can't do, and names that no image can have. Raises UsageError."""
    refused = {
        "--cache-from": request.cache_from,
        "--cache-to": request.cache_to,
        "--annotation": request.annotations,
    }
    for option, given in refused.items():
        if given:
            raise UsageError(f"{option} is not supported yet", hint="leave it out")
    rewrites = any(o.get("rewrite-timestamp") in _YES for o in request.outputs)
    if rewrites and not dict(request.build_args).get("SOURCE_DATE_EPOCH"):
        raise UsageError("rewrite-timestamp needs a time", hint="give --build-arg SOURCE_DATE_EPOCH=SECONDS")
    for name in request.tags:
        if reference.parse(name).digest:
            raise UsageError(f"-t {name}: a digest is not for choosing", hint="name the image by a tag")


def load(engine: Engine, request: BuildRequest, files: BuildFiles, emit: Emit) -> FrontendResult:
    """Read the Dockerfile and make the build graph; base images are looked up meanwhile."""
    with Step(emit, f"[internal] load build definition from {files.shown}"):
        dockerfile = parse(files.dockerfile, files.shown)
    resolver = Resolver(engine, request, emit)
    return convert(dockerfile, convert_options(request, files), resolver)


class Resolver:
    """The frontend's ImageResolver, showing each look-up as a step."""

    def __init__(self, engine: Engine, request: BuildRequest, emit: Emit) -> None:
        self._engine = engine
        self._pull = request.pull
        self._emit = emit
        self._layouts = {value for _, value in request.build_contexts if value.startswith("oci-layout://")}

    def resolve(self, ref: str, platform: str) -> Any:
        with Step(self._emit, f"[internal] load metadata for {ref}"):
            if ref in self._layouts:
                from buildkit_py.source.ocilayout import take

                digest = take(self._engine.content, self._engine.images, ref, platform)
                return self._engine.sources.resolve(digest, platform)._replace(ref=ref)
            return self._engine.sources.resolve(ref, platform, pull=self._pull)


def convert_options(request: BuildRequest, files: BuildFiles) -> ConvertOptions:
    return ConvertOptions(
        build_args=dict(request.build_args),
        target=request.target,
        platforms=request.platforms,
        labels=dict(request.labels),
        no_cache=request.no_cache,
        no_cache_filter=request.no_cache_filter,
        ignore=files.ignore,
        contexts=dict(request.build_contexts),
        context_ignores=files.ignores,
        sources=files.sources,
        network=request.network,
        extra_hosts=request.extra_hosts,
        shm_size=request.shm_size,
        ulimits=request.ulimits,
        allow=request.allow,
        proxy=proxies(),
    )


def run(
    engine: Engine, request: BuildRequest, files: BuildFiles, frontend: FrontendResult, emit: Emit
) -> tuple[dict[Digest, Any], DiffIds]:
    """Solve the graph for its targets."""
    roots = tuple(t.root for t in frontend.targets if t.root is not None)
    diffs = DiffIds(engine.snapshots, frontend.graph, roots)
    local = Locals(engine.root, files, request)
    context = BuildContext(
        root=engine.root,
        snapshots=engine.snapshots,
        index=engine.index,
        images=engine.sources,
        graph=frontend.graph,
        prepare=lambda ctx: prepare(engine, ctx),
        open_local=local.open,
        open_inline=InlineTree,
        secrets={s.id: Secret(s.id, s.source, s.env) for s in request.secrets},
        committed=diffs.committed,
        services=files.services,
    )
    try:
        shown = fetched(context, roots, emit)
        results = solve(frontend.graph, roots, Worker(context), emit, shown)
    except BaseException:
        diffs.abandon()
        raise
    finally:
        engine.index.note_uses()
    return results, diffs


def fetched(context: BuildContext, roots: tuple[Digest, ...], emit: Emit) -> frozenset[Digest]:
    """Fetch what steps need from elsewhere, before there are threads; return the nodes that were shown."""
    from buildkit_py.llb.ops import GitSource, HttpSource

    if not any(isinstance(node.op, GitSource | HttpSource) for node in context.graph.nodes.values()):
        return frozenset()
    from buildkit_py.worker.fetch import fetch

    return fetch(context, roots, emit)


def prepare(engine: Engine, context: BuildContext) -> None:
    engine.enter()
    context.identity = engine.identity
    context.launcher = engine.launcher
    context.overlay = engine.overlay


@contextmanager
def placed(files: BuildFiles) -> Iterator[None]:
    """Add the Dockerfile's lines to an error that knows only their numbers."""
    try:
        yield
    except (StepError, DockerfileError) as e:
        if not e.lines and e.start:
            e.lines = files.lines()
        raise


def finish(
    engine: Engine,
    request: BuildRequest,
    files: BuildFiles,
    frontend: FrontendResult,
    results: dict[Digest, Any],
    diffs: DiffIds,
    emit: Emit,
) -> BuildResult:
    """Name the layers, write the configs and hand both to the exporters."""
    outputs = request.outputs or (Output("image"),)
    with Step(emit, "exporting to " + ", ".join(_SHOWN.get(o.kind, o.kind) for o in outputs)) as step:
        vertex = step.event.digest
        result = BuildResult()
        for output in outputs:
            made = tuple(
                product(engine, request, frontend, target, output, results, diffs, emit, vertex)
                for target in frontend.targets
            )
            if made[0].config and not result.image_id:
                result = result._replace(image_id=of_bytes(made[0].config))
            result = export(engine, request, output, made, result, emit, vertex)
    for w in frontend.warnings:
        emit(WarningEvent("", w.message, w.rule, w.path, w.start, w.end, w.url))
    lines = files.lines() if frontend.warnings else ()
    return result._replace(
        warnings=tuple(
            BuildWarning(w.message, w.rule, w.path, w.start, w.end, w.url, lines) for w in frontend.warnings
        )
    )


def name_images(engine: Engine, ids: list[Digest], names: tuple[str, ...]) -> list[str]:
    if len(ids) == 1:
        return [engine.images.tag(name, ids[0]) for name in names]
    from buildkit_py.exporter.image import name_all

    images = [image for image in map(engine.images.by_id, ids) if image is not None]
    return name_all(engine.images, images, names)


_YES = ("true", "1")
_SHOWN = {"oci": "oci image format", "docker": "docker image format", "local": "client directory"}


def product(
    engine: Engine,
    request: BuildRequest,
    frontend: FrontendResult,
    target: BuildTarget,
    output: Output,
    results: dict[Digest, Any],
    diffs: DiffIds,
    emit: Emit,
    vertex: str,
) -> Product:
    """What one output gets of one platform."""
    snapshot = results[target.root] if target.root else None
    if output.get("rewrite-timestamp") in _YES:
        from buildkit_py.engine.timestamps import rewritten
        from buildkit_py.frontends.dockerfile.options import epoch

        latest = epoch(ConvertOptions(dict(request.build_args)))
        snapshot = rewritten(engine, frontend.graph, target.root, snapshot, latest, emit)
    config = b""
    if output.kind not in ("local", "tar"):
        config = config_bytes(target.config, diffs.wait(snapshot, emit, vertex))
    return Product(target.platform, snapshot, config, request.tags)


def export(
    engine: Engine,
    request: BuildRequest,
    output: Output,
    products: tuple[Product, ...],
    result: BuildResult,
    emit: Emit,
    vertex: str,
) -> BuildResult:
    """Do one ``-o``. The image in the store is done here, without loading what the others need."""
    attributes = dict(output.attributes)
    dest = attributes.pop("dest", "")
    attributes.pop("rewrite-timestamp", "")
    if output.kind == "cacheonly":
        return result
    if (output.kind == "image" and not attributes) or (output.kind == "docker" and not dest):
        ids = [engine.images.put(made.config) for made in products]
        for image_id in ids:
            emit(StatusEvent(vertex, f"writing image {image_id}", started=time.time(), completed=time.time()))
        names = name_images(engine, ids, request.tags)
        for name in names:
            emit(StatusEvent(vertex, f"naming to {name}", started=time.time(), completed=time.time()))
        return result._replace(names=tuple(names))
    from buildkit_py import exporter
    from buildkit_py.exporter.spec import OutputSpec

    engine.enter()
    spec = OutputSpec(output.kind, dest, attributes)
    told = exporter.export(spec, products, engine.stores, emit, vertex)
    names_told = tuple(n for n in told.get("image.name", "").split(",") if n)
    return result._replace(
        digest=told.get("containerimage.digest", result.digest), names=names_told or result.names
    )
