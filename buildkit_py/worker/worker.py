"""The solver's Ops: hands each node to the module that knows its op.

A new op is a new module with a Handler and one line in HANDLERS.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.errors import DockerfileError, PybuildError, StepError
from buildkit_py.llb import ops
from buildkit_py.llb.graph import Node
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Hit, Key, Result
from buildkit_py.typed import Any
from buildkit_py.worker.context import BuildContext
from buildkit_py.worker.exec import ExecHandler
from buildkit_py.worker.fileop import FileHandler
from buildkit_py.worker.handler import ContentHandler, Handler
from buildkit_py.worker.merge import MergeHandler
from buildkit_py.worker.sources import GitHandler, HttpHandler, ImageHandler, InlineHandler, LocalHandler

HANDLERS: dict[type[Any], Handler] = {
    ops.ImageSource: ImageHandler(),
    ops.LocalSource: LocalHandler(),
    ops.InlineSource: InlineHandler(),
    ops.GitSource: GitHandler(),
    ops.HttpSource: HttpHandler(),
    ops.File: FileHandler(),
    ops.Exec: ExecHandler(),
    ops.Merge: MergeHandler(),
}


class Worker:
    """Implements buildkit_py.solver.types.Ops for one build."""

    def __init__(self, context: BuildContext) -> None:
        self.context = context

    def prepare(self) -> None:
        self.context.prepare()

    def cancel(self) -> None:
        self.context.cancel()

    def key(self, node: Node, inputs: Sequence[Digest], by_content: bool) -> Key | None:
        handler = _handler(node)
        try:
            if by_content and isinstance(handler, ContentHandler):
                key = handler.early_key(self.context, node, node.op, inputs)
            else:
                key = handler.key(self.context, node, node.op, inputs)
        except PybuildError as e:
            raise placed(e, node) from e
        if key is None:
            return None
        key = self._aged(node, key)
        if key.expired and not key.record:
            # It is to be kept anew, and nobody has looked yet at what it is made of.
            return None
        self.context.keys[node.digest] = key.digest
        return key

    def _aged(self, node: Node, key: Key) -> Key:
        """Only what a RUN makes grows old: all else depends on its key alone."""
        if not self.context.oldest or not isinstance(node.op, ops.Exec):
            return key
        made, shared = self.context.index.made(key.digest), self.context.shared
        created = made[1] if made is not None else shared.created(key.digest) if shared is not None else None
        if created is None or created >= self.context.oldest:
            return key
        self.context.expired.add(node.digest)
        return key._replace(expired=True)

    def needs_content_of(self, node: Node) -> tuple[int, ...]:
        return _handler(node).content_of(node.op)

    def content_key(self, node: Node, inputs: Sequence[Digest], results: Sequence[Result]) -> Key:
        try:
            results = self.context.fetched(results)
            key = _handler(node).content_key(self.context, node, node.op, inputs, results)
        except PybuildError as e:
            raise placed(e, node) from e
        self.context.keys[node.digest] = key.digest
        return self._aged(node, key)

    def load(self, node: Node, key: Key) -> Hit | None:
        if self.context.doubts(node):
            return None
        hit = _handler(node).load(self.context, node, node.op, key)
        if hit is not None:
            self._remember(node, key)
        return hit

    def _remember(self, node: Node, key: Key) -> None:
        """Keep what the step's definition led to, now that there is a result: the alias of a step that failed
        would lead nowhere."""
        definition = self.context.definitions.get(node.digest)
        # Else the alias itself told the key, or the definition is of inputs that were something else.
        looked = bool(key.record) and not self.context.doubts(node)
        if definition is not None and looked and self.context.index.made(key.digest) is not None:
            self.context.index.put_alias(definition, key.digest)

    def used(self, key: Key) -> None:
        self.context.index.use(key.digest)

    def run(
        self, node: Node, key: Key, results: Sequence[Result], emit: Emit, *, forced: bool
    ) -> Result | Hit:
        from buildkit_py.worker.claim import claimed

        try:
            with claimed(self.context, node, key, emit):
                found = None if forced or self.context.doubts(node) else self._made_meanwhile(key)
                if found is None:
                    return self._run(node, key, results, emit)
        except PybuildError as e:
            raise placed(e, node) from e
        self._remember(node, key)
        self.context.committed(node.digest, found)
        return Hit(found)

    def _made_meanwhile(self, key: Key) -> SnapshotID | None:
        """By another build, since this one looked."""
        found = self.context.index.get(key.digest)
        return found if found is not None and self._usable(found) else None

    def _usable(self, snapshot: SnapshotID) -> bool:
        return self.context.snapshots.exists(snapshot) and self.context.snapshots.whole(snapshot)

    def _run(self, node: Node, key: Key, results: Sequence[Result], emit: Emit) -> Result:
        results = self.context.fetched(results)
        self.context.starting(node, key, results)
        result = _handler(node).run(self.context, node, node.op, key, results, emit)
        self._remember(node, key)
        self.context.committed(node.digest, result)
        return result


def _handler(node: Node) -> Handler:
    handler = HANDLERS.get(type(node.op))
    if handler is None:
        raise PybuildError(f"this worker cannot do {type(node.op).__name__} ({node.meta.name})")
    return handler


def placed(error: PybuildError, node: Node) -> PybuildError:
    """The same error with the step's name and its place in the Dockerfile (the engine adds the lines)."""
    meta = node.meta
    if isinstance(error, DockerfileError):
        return error
    if isinstance(error, StepError):
        if not error.path:
            error.path, error.start, error.end = meta.path, meta.start, meta.end
        return error
    return StepError(
        error.message,
        step=meta.name,
        status=0,
        path=meta.path,
        start=meta.start,
        end=meta.end,
        hint=error.hint,
        word=error.word,
    )
