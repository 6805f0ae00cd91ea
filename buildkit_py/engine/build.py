"""One build, from the request to the exported image."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from buildkit_py.digest import Digest, of_bytes
from buildkit_py.engine.contexts import BuildFiles, Locals
from buildkit_py.engine.diffs import DiffIds
from buildkit_py.engine.settings import proxies
from buildkit_py.errors import DockerfileError, PybuildError, StepError, UsageError
from buildkit_py.exporter import Product
from buildkit_py.frontends.dockerfile.convert import ConvertOptions, convert, read
from buildkit_py.history.recorder import Recorder
from buildkit_py.image import reference
from buildkit_py.image.assemble import config_bytes
from buildkit_py.llb.graph import Node
from buildkit_py.llb.result import BuildTarget, FrontendResult
from buildkit_py.progress.events import Emit, StatusEvent, VertexEvent, WarningEvent, told
from buildkit_py.request import BuildRequest, BuildResult, BuildWarning, Networking, NetworkSpec, Output
from buildkit_py.solver.solve import solve
from buildkit_py.solver.types import Key, Result
from buildkit_py.source.inline import InlineTree
from buildkit_py.typed import TYPE_CHECKING, Any
from buildkit_py.worker.context import BuildContext, Secret
from buildkit_py.worker.worker import Worker

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.sharing import Sharing
    from buildkit_py.exporter.attestations import Predicate


class Step:
    """A vertex of the build that is not a node of the graph, with its own log line and time."""

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self.event = VertexEvent(f"internal:{name}", name, started=time.time())

    def __enter__(self) -> Step:
        self._emit(self.event)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        self._emit(self.event._replace(completed=time.time(), error=told(error)))


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


_YES = ("true", "1")
_ENTITLEMENTS = ("network.host", "security.insecure", "device")
_TRUE = ("1", "t", "true")
MULTI_PLATFORM = "BUILDKIT_MULTI_PLATFORM"
"""The build argument that asks for an index of one platform."""
INLINE_CACHE = "BUILDKIT_INLINE_CACHE"
"""The build argument that asks for --cache-to type=inline."""
_SHOWN = {"oci": "oci image format", "docker": "docker image format", "local": "client directory"}


def refuse(request: BuildRequest) -> None:
    """Refuse by name what this version can't do, and names that no image can have. Raises UsageError."""
    if request.annotations:
        from buildkit_py.engine.outputs import check

        check(request)
    if request.attests:
        from buildkit_py.engine.outputs import check_attests

        check_attests(request)
    rewrites = any(o.get("rewrite-timestamp") in _YES for o in request.outputs)
    if rewrites and not dict(request.build_args).get("SOURCE_DATE_EPOCH"):
        raise UsageError("rewrite-timestamp needs a time", hint="give --build-arg SOURCE_DATE_EPOCH=SECONDS")
    for name in request.tags:
        if reference.parse(name).digest:
            raise UsageError(f"-t {name}: a digest is not for choosing", hint="name the image by a tag")
    for output in request.outputs:
        if output.kind == "docker" and output.get("dest") and len(dict.fromkeys(request.platforms)) > 1:
            raise UsageError("type=docker holds one platform", hint="use type=oci for several")
        if output.get("push") in _YES and not request.tags and not output.get("name"):
            raise UsageError(
                "an image without a name cannot be pushed", hint="name it with -t REGISTRY/NAME:TAG"
            )
    inline = any(spec.kind == "inline" for spec in request.cache_to) or INLINE_CACHE in dict(
        request.build_args
    )
    if request.squash and inline:
        raise UsageError(
            "--squash: an image of one layer holds no inline cache", hint="--cache-to type=registry,ref=…"
        )
    for entitlement in request.allow:
        if entitlement.partition("=")[0] not in _ENTITLEMENTS:
            hint = "one of network.host, security.insecure, device[=NAME]"
            raise UsageError(f"--allow: there is no entitlement {entitlement!r}", hint=hint)
    for secret in request.secrets:
        if secret.source and not os.path.exists(secret.source):
            raise UsageError(
                f"--secret {secret.id}: there is no file {secret.source}",
                hint=f"id={secret.id},src=FILE or id={secret.id},env=VARIABLE",
            )


def named_network(request: BuildRequest) -> bool:
    """Whether RUN steps are on a network of the user's, with containers."""
    return request.network not in ("", "default", "host", "none", "private")


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


class Build:
    """One build. The methods stand in the order of the work; each finds what those before it left in the
    attributes, which are set once."""

    files: BuildFiles
    """Set by run()."""
    frontend: FrontendResult
    """Set by load()."""
    results: dict[Digest, Any]
    """Of the targets' roots; set by solve(), like what follows."""
    diffs: DiffIds
    context: BuildContext
    unlimited = ""
    """Which limits can't be set on this machine, and why."""

    def __init__(
        self,
        engine: Engine,
        request: BuildRequest,
        emit: Emit,
        entering: Callable[[StepError], None] = lambda error: None,
    ) -> None:
        self.engine = engine
        self.request = request
        self.shown = emit
        self.ran = False
        """Whether a step was begun."""
        self.entering = entering
        self.stated: dict[str, tuple[Predicate, ...]] = {}
        """Of each platform, by --attest."""
        self.sharing = self.make_sharing(emit)
        self.record = Recorder(engine.history, request, self.sharing.display if self.sharing else emit)
        engine.last_build = self.record.id
        self.emit: Emit = self.record
        if self.sharing is not None:
            self.sharing.emit = self.record

    def make_sharing(self, emit: Emit) -> Sharing | None:
        """The caches of --cache-from and --cache-to, where there are any."""
        request = self.request
        if not (request.cache_from or request.cache_to or INLINE_CACHE in dict(request.build_args)):
            return None
        from buildkit_py.engine.sharing import Sharing

        return Sharing(self.engine, request, emit)

    def run(self) -> BuildResult:
        """Raises DockerfileError, StepError and what the parts raise."""
        refuse(self.request)
        self.engine.after_boot()
        self.engine.share()
        if named_network(self.request):
            from buildkit_py.engine import networking

            networking.check(self.engine, Networking((NetworkSpec(self.request.network),)))
        self.files = BuildFiles.open(self.request, self.engine, self.emit)
        result, error = None, None
        try:
            result = self.work()
            return result
        except BaseException as e:
            error = e
            raise
        finally:
            self.files.close()
            if self.ran:
                # What a failed step wrote may be all that the disk had room for; a killed build's, too.
                with suppress(OSError):
                    self.engine.snapshots.collect_dead()
            self.record.finish(result, error)
            if self.ran and not isinstance(error, KeyboardInterrupt):
                from buildkit_py.engine.gc import collect

                collect(self.engine, self.shown)

    def work(self) -> BuildResult:
        self.load()
        while True:
            try:
                return self.made()
            except PybuildError as e:
                if self.sharing is None or not self.sharing.retry(e):
                    raise

    def made(self) -> BuildResult:
        """Solve and export."""
        try:
            self.solve()
        except (StepError, DockerfileError) as e:
            # It knows only the numbers of the Dockerfile's lines.
            if not e.lines and e.start:
                e.lines = self.files.lines()
            e.warnings = self.warnings()
            if isinstance(e, StepError) and self.context.failed is not None:
                from buildkit_py.engine.shell import enter

                self.entering(e)
                enter(self.engine, self.context.failed)
            raise
        result = self.finish()
        if self.sharing is not None:
            result = self.sharing.export(result, self.frontend, self.diffs)
        return result

    def load(self) -> None:
        """Read the Dockerfile and make the build graph; base images are looked up meanwhile."""
        with Step(self.emit, f"[internal] load build definition from {self.files.shown}"):
            dockerfile = read(self.files.dockerfile, self.files.shown, dict(self.request.build_args))
        resolver = Resolver(self.engine, self.request, self.emit)
        self.frontend = convert(dockerfile, convert_options(self.request, self.files), resolver)
        if self.request.unset_env or self.request.unset_labels:
            targets = tuple(target._replace(config=self.without(target)) for target in self.frontend.targets)
            self.frontend = self.frontend._replace(targets=targets)
        declared = {
            word.partition("=")[0] for i in dockerfile.instructions if i.name == "arg" for word in i.args
        }
        self.record.loaded(self.files.shown, self.files.dockerfile, declared, self.frontend.graph)

    def without(self, target: BuildTarget) -> dict[str, Any]:
        """The image's config without what the request leaves out."""
        config = dict(target.config.get("config") or {})
        unset = self.request.unset_env
        config["Env"] = [item for item in config.get("Env") or () if item.partition("=")[0] not in unset]
        labels = {k: v for k, v in (config.get("Labels") or {}).items() if k not in self.request.unset_labels}
        if "Labels" in config:
            config["Labels"] = labels
        return {**target.config, "config": {k: v for k, v in config.items() if v}}

    def solve(self) -> None:
        """Solve the graph for its targets."""
        engine, graph = self.engine, self.frontend.graph
        roots = tuple(t.root for t in self.frontend.targets if t.root is not None)
        self.diffs = DiffIds(engine.snapshots, graph, roots, engine.enter)
        self.context = context = self.make_context()
        context.keep_failed = self.request.on_failure == "shell"
        try:
            shown = self.fetched(roots)
            self.results = solve(graph, roots, Worker(context), self.emit, shown)
            if self.sharing is not None:
                self.results = self.sharing.solved(self.results, context)
        except BaseException:
            self.diffs.abandon()
            raise
        finally:
            self.record.keys, self.record.expired = context.keys, context.expired
            engine.index.note_uses()

    def starting(self, node: Node, key: Key, results: Sequence[Result]) -> None:
        """A step begins to run, in whatever thread: keep what its key was made of."""
        self.ran = True
        self.record.starting(node, key, results)
        if self.engine.history.keep:
            meta, hashed = node.meta, self.context.contents
            self.engine.inputs.note(key, name=meta.name, stage=meta.stage, hashed=hashed)

    def make_context(self) -> BuildContext:
        engine = self.engine
        return BuildContext(
            root=engine.root,
            snapshots=engine.snapshots,
            index=engine.index,
            images=engine.sources,
            graph=self.frontend.graph,
            prepare=self.prepare,
            open_local=self.locals().open,
            open_inline=InlineTree,
            secrets={s.id: Secret(s.id, s.source, s.env) for s in self.request.secrets},
            oldest=time.time() - self.request.cache_ttl if self.request.cache_ttl else 0.0,
            starting=self.starting,
            committed=self.diffs.committed,
            services=self.files.services,
            network="private" if self.request.network == "private" else "host",
            shared=self.sharing,
            limits=self.request.limits,
        )

    def locals(self) -> Locals:
        return Locals(self.engine.root, self.files, self.request)

    def prepare(self, context: BuildContext) -> None:
        """The first step is about to run."""
        self.engine.index.note_uses()  # so that a collection meanwhile takes other things first
        if named_network(self.request):
            from buildkit_py.engine import networking
            from buildkit_py.worker.network import JoinedNetwork

            network = networking.network_of(self.engine, self.request.network)
            self.engine.begin_on_networks(((NetworkSpec(network.name),),))
            context.joined = JoinedNetwork(self.engine.root, network.message())
        self.engine.enter()
        context.identity = self.engine.identity
        context.launcher = self.engine.launcher
        context.overlay = self.engine.overlay
        from buildkit_py.sandbox import limits

        self.unlimited = limits.check(
            self.request.limits, self.engine.identity.mode, self.engine.launcher.starter
        )

    def fetched(self, roots: tuple[Digest, ...]) -> frozenset[Digest]:
        """Fetch what steps need from elsewhere, before there are threads; the nodes that were shown."""
        from buildkit_py.llb.ops import GitSource, HttpSource

        if not any(
            isinstance(node.op, GitSource | HttpSource) for node in self.frontend.graph.nodes.values()
        ):
            return frozenset()
        from buildkit_py.worker.fetch import fetch

        return fetch(self.context, roots, self.emit)

    def finish(self) -> BuildResult:
        """Name the layers, write the configs and hand both to the exporters."""
        outputs = self.request.outputs or (Output("image"),)
        with Step(
            self.emit, "exporting to " + ", ".join(_SHOWN.get(o.kind, o.kind) for o in outputs)
        ) as step:
            vertex = step.event.digest
            result = BuildResult()
            for output in outputs:
                made = tuple(self.product(target, output, vertex) for target in self.frontend.targets)
                if made[0].config and not result.image_id:
                    result = result._replace(image_id=of_bytes(made[0].config))
                result = self.export(output, made, result, vertex)
        build = self.record.id if self.engine.history.keep else ""
        return result._replace(warnings=self.warnings(), build=build)

    def product(self, target: BuildTarget, output: Output, vertex: str) -> Product:
        """What one output gets of one platform."""
        snapshot = self.results[target.root] if target.root else None
        if self.sharing is not None:
            target, promised = self.sharing.product(self, target, snapshot, vertex)
            if promised is not None:
                return promised
        if output.get("rewrite-timestamp") in _YES:
            from buildkit_py.engine.timestamps import rewritten
            from buildkit_py.frontends.dockerfile.options import epoch

            latest = epoch(ConvertOptions(dict(self.request.build_args)))
            snapshot = rewritten(self.engine, self.frontend.graph, target.root, snapshot, latest, self.emit)
        if self.request.squash and output.kind not in ("local", "tar"):
            from buildkit_py.engine.squash import squashed

            target, snapshot = squashed(self.engine, self.frontend.graph, target, snapshot, self.emit)
        config = b""
        if output.kind not in ("local", "tar"):
            config = config_bytes(target.config, self.diffs.wait(snapshot, self.emit, vertex))
        return Product(target.platform, snapshot, config, self.request.tags)

    def export(
        self, output: Output, products: tuple[Product, ...], result: BuildResult, vertex: str
    ) -> BuildResult:
        """Do one ``-o``; ``vertex`` gets its progress."""
        attributes = dict(output.attributes)
        dest = attributes.pop("dest", "")
        attributes.pop("rewrite-timestamp", "")
        if output.kind == "cacheonly":
            return result
        plain = not attributes and not dest and not self.request.annotations
        if output.kind in ("image", "docker") and plain and not self.is_index(products):
            return result._replace(names=self.keep(products[0], vertex))
        from buildkit_py import exporter
        from buildkit_py.engine.outputs import spec_for

        self.engine.enter()
        if self.request.attests:
            from buildkit_py.engine.attest import attested, provenances

            products = attested(self, output, products)
            result = result._replace(provenance=provenances(self))
        spec = spec_for(self.request, output, products, index=self.is_index(products))
        told = exporter.export(spec, products, self.engine.stores, self.emit, vertex)
        names_told = tuple(n for n in told.get("image.name", "").split(",") if n)
        return result._replace(
            digest=told.get("containerimage.digest", result.digest),
            descriptor=told.get("containerimage.descriptor", result.descriptor),
            names=names_told or result.names,
        )

    def is_index(self, products: tuple[Product, ...]) -> bool:
        """Whether the result is an index of platforms, be it of one."""
        return len(products) > 1 or dict(self.request.build_args).get(MULTI_PLATFORM, "").lower() in _TRUE

    def keep(self, product: Product, vertex: str) -> tuple[str, ...]:
        """Put the image in the store and name it, without loading what other exporters need."""
        images = self.engine.images
        image_id = images.put(product.config)
        self._done(vertex, f"writing image {image_id}")
        names = [images.tag(name, image_id) for name in self.request.tags]
        for name in names:
            images.annotate(name, ())
            self._done(vertex, f"naming to {name}")
        return tuple(names)

    def _done(self, vertex: str, text: str) -> None:
        self.emit(StatusEvent(vertex, text, started=time.time(), completed=time.time()))

    def warnings(self) -> tuple[BuildWarning, ...]:
        """The build checks' findings, which are shown too."""
        found = self.frontend.warnings
        for w in found:
            self.emit(WarningEvent("", w.message, w.rule, w.path, w.start, w.end, w.url))
        lines = self.files.lines() if found else ()
        shown = [BuildWarning(w.message, w.rule, w.path, w.start, w.end, w.url, lines) for w in found]
        return (*shown, *([BuildWarning(self.unlimited)] if self.unlimited else ()))
