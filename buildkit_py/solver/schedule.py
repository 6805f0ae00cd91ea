"""What must happen next: scheduling without I/O, in the manner of a state machine.

Events go in (``keyed``, ``loaded``, ``done``), instructions come out (``FindKey``, ``Load``, ``Run``), so
every order of events can be a unit test. Two demands drive it:

* the *key* of a vertex is wanted to look its result up. It needs the keys of all inputs and, where only
  the content of an input tells (``COPY --from`` a stage not seen before), that input's result;
* the *result* of a vertex is wanted because it is a root or a dependent missed. It needs the key; on a
  miss it needs the results of all inputs, then the vertex runs.

What nobody demands is neither hashed, loaded nor run.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Node
from buildkit_py.solver.types import Hit, Key, Result
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any


class FindKey(NamedTuple):
    """Ask ``Ops.key``; report by ``keyed``."""

    node: Node
    inputs: tuple[Digest, ...]
    by_content: bool = False
    """An input may differ from what it was under the same key, so no earlier look at it counts."""


class FindContentKey(NamedTuple):
    """Ask ``Ops.content_key``; report by ``keyed``."""

    node: Node
    inputs: tuple[Digest, ...]
    results: tuple[Result, ...]
    """One per input; None where the op does not look."""


class Load(NamedTuple):
    """Ask ``Ops.load``; report by ``loaded``."""

    node: Node
    key: Key


class Run(NamedTuple):
    """Ask ``Ops.run``; report by ``done``."""

    node: Node
    key: Key
    results: tuple[Result, ...]
    forced: bool = False
    """Whether a kept result doesn't count."""


Instruction = FindKey | FindContentKey | Load | Run


class Vertex:
    """A node inside one solve, with its state. ``result`` is valid once ``finished``."""

    __slots__ = (
        "cached", "content_wanted", "dependents", "finished", "foreseen", "inputs", "key", "key_asked",
        "key_wanted", "load_asked", "missed", "node", "result", "result_wanted", "run_asked", "tainted",
    )  # fmt: skip

    def __init__(self, node: Node, inputs: list[Vertex]) -> None:
        self.node = node
        self.inputs = inputs
        self.dependents: list[Vertex] = []
        self.key: Key | None = None
        self.result: Result = None
        self.key_wanted = self.result_wanted = False
        self.key_asked = self.load_asked = self.run_asked = False
        self.content_wanted: tuple[int, ...] = ()
        self.missed = self.finished = self.cached = self.foreseen = False
        self.tainted = False
        """Valid once there is a key. A result made in spite of the cache may differ under the same key, so
        nothing above may be loaded by a key that was derived from that key alone; one that was derived from
        its content may."""


class Schedule:
    """One solve of ``nodes`` (topological order) for ``roots``."""

    def __init__(self, nodes: Sequence[Node], roots: Sequence[Digest]) -> None:
        self.vertices: dict[Digest, Vertex] = {}
        for node in nodes:
            vertex = Vertex(node, [self.vertices[i] for i in node.inputs])
            self.vertices[node.digest] = vertex
            for i in vertex.inputs:
                i.dependents.append(vertex)
        self.roots = tuple(roots)
        self._misses: list[Vertex] = []
        self._runs: list[Vertex] = []

    def start(self) -> list[Instruction]:
        out: list[Instruction] = []
        for root in self.roots:
            self._want_result(self.vertices[root], out)
        return self._settled(out)

    @property
    def finished(self) -> bool:
        return all(self.vertices[r].finished for r in self.roots)

    def keyed(self, digest: Digest, key: Key | None, content_of: tuple[int, ...] = ()) -> list[Instruction]:
        """The answer to FindKey and FindContentKey. With ``key`` None, ``content_of`` says which inputs'
        results the content key is made from."""
        out: list[Instruction] = []
        vertex = self.vertices[digest]
        if key is None:
            vertex.content_wanted = content_of
            for i in content_of:
                self._want_result(vertex.inputs[i], out)
            self._advance(vertex, out)
            return self._settled(out)
        vertex.key = key
        forced = vertex.node.meta.no_cache or key.expired
        vertex.tainted = forced or any(
            i.tainted for n, i in enumerate(vertex.inputs) if n not in vertex.content_wanted
        )
        if vertex.result_wanted:
            self._advance(vertex, out)
        for dependent in vertex.dependents:
            if dependent.key_wanted:
                self._advance(dependent, out)
        return self._settled(out)

    def loaded(self, digest: Digest, hit: Hit | None) -> list[Instruction]:
        out: list[Instruction] = []
        vertex = self.vertices[digest]
        if hit is None:
            self._misses.append(vertex)
        else:
            vertex.cached = True
            self._finish(vertex, hit.result, out)
        return self._settled(out)

    def done(self, digest: Digest, result: Result) -> list[Instruction]:
        """The answer to Run."""
        out: list[Instruction] = []
        self._finish(self.vertices[digest], result, out)
        return self._settled(out)

    def _settled(self, out: list[Instruction]) -> list[Instruction]:
        """Act on what missed. A list and not a call from _advance: a chain of thousands of steps, none of
        which may use the cache, must not exhaust the interpreter's stack."""
        while self._misses or self._runs:
            if not self._misses:
                self._foresee(self._runs.pop(), out)
                continue
            vertex = self._misses.pop()
            vertex.missed = True
            for i in vertex.inputs:
                self._want_result(i, out)
            self._advance(vertex, out)
        return out

    def _foresee(self, vertex: Vertex, out: list[Instruction]) -> None:
        """While a step runs, begin with everything else that the steps above it need and that has no key
        without it: stages that one copies from, one after the other, and what is copied onto are built at
        the same time. Such a result could only be spared where the cache had forgotten it and still knew
        what was made of it."""
        todo = list(vertex.dependents)
        while todo:
            above = todo.pop()
            if above.foreseen or above.key is not None or not above.key_wanted:
                continue
            above.foreseen = True
            for i in above.inputs:
                self._want_result(i, out)
            todo += above.dependents

    def _want_key(self, vertex: Vertex, out: list[Instruction]) -> None:
        todo = [vertex]
        while todo:
            v = todo.pop()
            if v.key_wanted:
                continue
            v.key_wanted = True
            todo.extend(i for i in v.inputs if not i.key_wanted)
            self._advance(v, out)

    def _want_result(self, vertex: Vertex, out: list[Instruction]) -> None:
        if vertex.result_wanted:
            return
        vertex.result_wanted = True
        self._want_key(vertex, out)
        self._advance(vertex, out)

    def _advance(self, v: Vertex, out: list[Instruction]) -> None:
        """Give the next instruction for v, if its time has come and it was not given before."""
        if v.finished or v.run_asked:
            return
        if v.key is None:
            self._advance_key(v, out)
        elif v.result_wanted and not v.load_asked:
            v.load_asked = True
            if v.tainted:
                self._misses.append(v)
            else:
                out.append(Load(v.node, v.key))
        elif v.missed and all(i.finished for i in v.inputs):
            v.run_asked = True
            self._runs.append(v)
            out.append(Run(v.node, v.key, tuple(i.result for i in v.inputs), v.tainted))

    def _advance_key(self, v: Vertex, out: list[Instruction]) -> None:
        keys = [i.key.digest for i in v.inputs if i.key is not None]
        if len(keys) < len(v.inputs):
            return
        if not v.key_asked:
            v.key_asked = True
            by_content = v.node.meta.no_cache or any(i.tainted for i in v.inputs)
            out.append(FindKey(v.node, tuple(keys), by_content))
        elif v.content_wanted and all(v.inputs[i].finished for i in v.content_wanted):
            results: list[Any] = [None] * len(v.inputs)
            for i in v.content_wanted:
                results[i] = v.inputs[i].result
            out.append(FindContentKey(v.node, tuple(keys), tuple(results)))

    def _finish(self, v: Vertex, result: Result, out: list[Instruction]) -> None:
        v.result = result
        v.finished = True
        for dependent in v.dependents:
            if dependent.missed or dependent.content_wanted:
                self._advance(dependent, out)

    def validate(self) -> None:
        """Raise AssertionError where the state contradicts itself. Called by tests after every event."""
        for v in self.vertices.values():
            assert not v.run_asked or v.missed, v.node.meta.name
            assert not (v.cached and v.run_asked), v.node.meta.name
            assert v.key is not None or not v.load_asked, v.node.meta.name
            assert not v.run_asked or all(i.finished for i in v.inputs), v.node.meta.name
            assert not v.finished or v.cached or v.run_asked, v.node.meta.name
