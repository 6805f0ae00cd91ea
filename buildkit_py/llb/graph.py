"""The build graph: ops and edges, acyclic; nodes are named by digest and stand in topological order."""

from __future__ import annotations

from buildkit_py.digest import Digest, of_record
from buildkit_py.llb.ops import Op
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx


class Meta(NamedTuple):
    """What a node is called and where it comes from: presentation and policy, never identity."""

    name: str
    """As shown in progress: ``[build 2/4] RUN make``."""
    path: str = ""
    start: int = 0
    end: int = 0
    """Place in the Dockerfile, 1-based inclusive lines; 0: none."""
    stage: str = ""
    no_cache: bool = False
    secret_env: tuple[str, ...] = ()
    """``K=V`` for an Exec that stay out of its digest: proxy variables."""


class Node(NamedTuple):
    digest: Digest
    op: Op
    inputs: tuple[Digest, ...]
    meta: Meta


class Graph:
    """Append-only: ``add`` takes inputs that are already there, so insertion order is topological."""

    def __init__(self) -> None:
        self.nodes: dict[Digest, Node] = {}

    def add(self, op: Op, inputs: tuple[Digest, ...], meta: Meta) -> Digest:
        """Add a node, or find the equal one that is there (its first Meta stays).

        Equal work that may use the cache in one stage and not in another is two nodes.
        """
        for i in inputs:
            if i not in self.nodes:
                raise KeyError(i)
        record = [type(op).__name__, op, inputs]
        digest = of_record([*record, "no cache"] if meta.no_cache else record)
        if digest not in self.nodes:
            self.nodes[digest] = Node(digest, op, inputs, meta)
        return digest

    def needed_for(self, roots: tuple[Digest, ...]) -> list[Node]:
        """The nodes that the roots depend on, the roots included, in topological order."""
        needed = set(roots)
        for node in reversed(self.nodes.values()):
            if node.digest in needed:
                needed.update(node.inputs)
        return [n for n in self.nodes.values() if n.digest in needed]

    def networkx(self) -> networkx.DiGraph[Any]:
        """The same graph for planning, drawing and explaining: nodes carry ``node``."""
        import networkx

        dag: networkx.DiGraph[Any] = networkx.DiGraph()
        for node in self.nodes.values():
            dag.add_node(node.digest, node=node)
            dag.add_edges_from((i, node.digest) for i in node.inputs)
        return dag
