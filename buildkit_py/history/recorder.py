"""Records one build while it goes on.

A build in which nothing runs costs one row, written at its end. Where a step runs (or logs), the build gets
a directory and a row that says ``running`` first:

    history/<id>/journal      the events so far, a JSON document a line; removed when the row has them all
    history/<id>/<node>.log   a step's output, both streams as they came, never clipped

The journal is locked (fcntl, by process) as long as the build lives. A build that was killed leaves a row
that says ``running`` and a journal that nobody holds: then it is read from there, as interrupted.
Whatever fails here is no reason to fail the build: then there is no record, or a part of one.
"""

from __future__ import annotations

import json
import os
import time
from _thread import allocate_lock  # what threading.Lock is, without importing threading
from collections.abc import Collection, Iterable, Mapping, Sequence

from buildkit_py.digest import Digest, of_bytes
from buildkit_py.errors import StoreError
from buildkit_py.history.fold import Fold
from buildkit_py.history.store import History, log_name
from buildkit_py.llb.address import public
from buildkit_py.llb.graph import Graph, Node
from buildkit_py.llb.ops import ImageSource
from buildkit_py.progress.events import Emit, Event, LogEvent, VertexEvent
from buildkit_py.request import BuildRequest, BuildResult, Pairs
from buildkit_py.solver.types import Key, Result
from buildkit_py.typed import Any

_FAILURES = (OSError, StoreError, ValueError)


class Recorder:
    """An Emit that passes events on to another and remembers them."""

    def __init__(self, history: History, request: BuildRequest, emit: Emit) -> None:
        self.id = os.urandom(6).hex()
        self._history = history
        self._request = request
        self.keys: Mapping[Digest, Digest] = {}
        self.expired: Collection[Digest] = ()
        """Of nodes, as far as they became known; set by the build."""
        self._emit = emit
        self.started = time.time()
        self._inputs: dict[str, Any] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._events: list[tuple[Any, ...]] = []
        self._journal = -1
        self._logs: dict[str, int] = {}
        self._lock = allocate_lock()
        self._off = not history.keep

    def __call__(self, event: Event) -> None:
        """Called from any thread."""
        if isinstance(event, VertexEvent):
            self._note(("vertex", *event[:6]))
        elif isinstance(event, LogEvent):
            self._log(event)
        self._emit(event)

    # What the build tells

    def loaded(self, shown: str, text: bytes, declared: Iterable[str], graph: Graph) -> None:
        """The Dockerfile, which declares these ARGs, was made a graph."""
        self._nodes = {node.digest: node_fields(node) for node in graph.nodes.values()}
        self._inputs = {
            "dockerfile": shown,
            "digest": of_bytes(text),
            "declared": sorted(declared),
            "bases": [f["image"] for f in self._nodes.values() if "image" in f],
        }

    def starting(self, node: Node, key: Key, results: Sequence[Result]) -> None:
        """A step begins to run. Called from any thread."""
        parents = [str(result) if isinstance(result, str) else None for result in results]
        with self._lock:
            self._begin()
        self._note(("ran", node.digest, key.digest, parents))

    def finish(self, result: BuildResult | None, error: BaseException | None) -> None:
        """The build ended."""
        if self._off:
            return
        fold = Fold(self._nodes)
        for kind, *event in self._events:
            (fold.vertex if kind == "vertex" else fold.ran)(*event)
        outputs: dict[str, Any] = {}
        if result is not None:
            outputs = {"image": result.image_id, "digest": result.digest, "names": list(result.names)}
        document = {
            "inputs": self.inputs(),
            "outputs": {name: value for name, value in outputs.items() if value},
            "error": "" if error is None else str(error) or type(error).__name__,
            "steps": fold.steps(self.keys, self.expired),
        }
        row = (self.id, self.started, time.time(), _status(error), self._name(), json.dumps(document))
        try:
            self._history.write(row)
            self._end()
        except _FAILURES:
            pass

    # How it is kept

    def _note(self, event: tuple[Any, ...]) -> None:
        with self._lock:
            self._events.append(event)
            if self._journal >= 0:
                self._write(event)

    def _begin(self) -> None:
        """Something runs: from now on a record is there even if this process is killed."""
        if self._journal >= 0 or self._off:
            return
        try:
            place = self._history.directory(self.id)
            os.makedirs(place, mode=0o700, exist_ok=True)
            self._journal = self._history.open_journal(self.id)
            self._write({"inputs": self.inputs(), "nodes": self._nodes})
            for event in self._events:
                self._write(event)
            self._history.write((self.id, self.started, 0.0, "running", self._name(), ""))
        except _FAILURES:
            self._off = True

    def _write(self, value: Any) -> None:
        try:
            os.write(self._journal, json.dumps(value).encode() + b"\n")
        except OSError:
            pass

    def _log(self, event: LogEvent) -> None:
        with self._lock:
            self._begin()
            if self._off:
                return
            try:
                fd = self._logs.get(event.vertex, -1)
                if fd < 0:
                    path = os.path.join(self._history.directory(self.id), log_name(event.vertex))
                    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                    self._logs[event.vertex] = fd
                data = memoryview(event.data)
                while data:
                    data = data[os.write(fd, data) :]
            except OSError:
                pass

    def _end(self) -> None:
        for fd in self._logs.values():
            os.close(fd)
        self._logs.clear()
        if self._journal >= 0:
            self._history.drop_journal(self.id)
            os.close(self._journal)
            self._journal = -1
            self._history.sweep()

    def _name(self) -> str:
        request = self._request
        if request.tags:
            return request.tags[0]
        context = public(request.context)
        return context if "://" in context else os.path.basename(os.path.abspath(context))

    def inputs(self) -> dict[str, Any]:
        request = self._request
        context = public(request.context)
        inputs = {
            "context": context if "://" in context or context == "-" else os.path.abspath(context),
            **self._inputs,
            "args": _shown_args(request.build_args) if request.build_args else {},
            "target": request.target,
            "platforms": request.platforms,
            "contexts": {name: public(value) for name, value in request.build_contexts},
            "secrets": [secret.id for secret in request.secrets],
            "no_cache": request.no_cache,
            "no_cache_filter": request.no_cache_filter,
            "cache_ttl": request.cache_ttl,
            "pull": request.pull,
            "tags": request.tags,
        }
        return {name: value for name, value in inputs.items() if value}


def _status(error: BaseException | None) -> str:
    if error is None:
        return "completed"
    return "failed" if isinstance(error, Exception) else "canceled"


def _shown_args(given: Pairs) -> dict[str, str | None]:
    from buildkit_py.llb.secrecy import shown_value

    return {name: shown_value(name, value) for name, value in given}


def node_fields(node: Node) -> dict[str, Any]:
    """What a Step has of its node."""
    meta, op = node.meta, node.op
    fields: dict[str, Any] = {"op": type(op).__name__, "inputs": node.inputs}
    if meta.stage:
        fields["stage"] = meta.stage
    if meta.start:
        fields["line"] = meta.start
    if meta.no_cache:
        fields["forced"] = True
    if isinstance(op, ImageSource):
        fields["image"] = f"{op.ref}@{op.digest}"
    return fields
