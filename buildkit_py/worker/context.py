"""What the ops of one build share: store, sandbox, local contexts, and what the user handed in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.errors import PybuildError
from buildkit_py.llb.graph import Graph, Node
from buildkit_py.llb.ops import InlineSource, LocalSource
from buildkit_py.progress.events import Emit
from buildkit_py.request import Limits
from buildkit_py.solver.types import Key, Result
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from contextlib import ExitStack

    from buildkit_py.cache.hashing import Preimage
    from buildkit_py.cache.index import CacheIndex
    from buildkit_py.cache.statcache import StatCache
    from buildkit_py.linux.identity import Identity
    from buildkit_py.sandbox.launcher import Launcher, Running
    from buildkit_py.sandbox.spec import SandboxSpec
    from buildkit_py.snapshot.store import SnapshotStore
    from buildkit_py.snapshot.tree import Tree
    from buildkit_py.source.image import Layer
    from buildkit_py.source.remote import Remote
    from buildkit_py.source.temporary import TemporaryDirectory
    from buildkit_py.worker.network import JoinedNetwork
    from buildkit_py.worker.selection import Selection
    from buildkit_py.worker.ssh import Agents


class Images(Protocol):
    def unpack(self, digest: Digest, emit: Emit, vertex: str) -> SnapshotID | None:
        """The snapshot of an image's root file system, pulled and unpacked as far as it isn't here."""
        ...


class Promised(NamedTuple):
    """A result that a shared cache has. Its files are fetched when a step needs them."""

    key: Key
    layers: tuple[Layer, ...]
    """Bottom first, as the cache describes them."""
    name: str
    step: str
    created: float


class SharedCaches(Protocol):
    """The caches of ``--cache-from``."""

    def find(self, node: Node, key: Key) -> Promised | None: ...

    def created(self, key: Digest) -> float | None:
        """When the result that a cache has under a key was made."""
        ...

    def definition(self, definition: Digest) -> Key | None:
        """The content key that a definition led to elsewhere, of a result that is there."""
        ...

    def fetch(self, promised: Promised) -> SnapshotID | None:
        """Have it here, unpacked, and in the index under its key. Called in any thread.

        Raises PybuildError where the cache does not keep its promise; the build must then begin anew.
        """
        ...

    def fill(self, name: Digest, path: str, folder: str) -> bool:
        """Fill the new, empty folder of a cache mount, whose directory is ``path``, with what a cache has of
        it; False where none has it, and the folder is empty then."""
        ...


class Services(Protocol):
    """What reaches beyond this machine, with what the command line allows it to use."""

    @property
    def remote(self) -> Remote: ...

    @property
    def stack(self) -> ExitStack:
        """What is to be removed when the build ends, however it does."""
        ...

    @property
    def agents(self) -> Agents | None:
        """None where no SSH agent was given."""
        ...


class LocalContext(NamedTuple):
    """A local directory, opened with its ignore rules."""

    tree: Tree
    statcache: StatCache | None


class Secret(NamedTuple):
    """Where a secret's value comes from; read only when a step wants it."""

    id: str
    path: str = ""
    env: str = ""

    def read(self) -> bytes:
        """A variable that isn't set is an empty secret, as with BuildKit. Raises OSError."""
        if self.env:
            return os.environb.get(os.fsencode(self.env), b"")
        with open(self.path, "rb") as f:
            return f.read()


class Failed(NamedTuple):
    """A RUN that failed, with the state that it left."""

    spec: SandboxSpec
    namespace: int
    """Its network's, as of Launcher.run; it is of what is held."""
    held: ExitStack
    """What its sandbox stands on; to be closed."""


class BuildContext:
    """One build's services. ``prepare`` enters the identity and starts the launcher; until then
    ``identity``, ``launcher`` and ``overlay`` (whether it can be mounted) are unset."""

    identity: Identity
    launcher: Launcher
    overlay: bool

    def __init__(
        self,
        *,
        root: str,
        snapshots: SnapshotStore,
        index: CacheIndex,
        images: Images,
        prepare: Callable[[BuildContext], None],
        graph: Graph,
        open_local: Callable[[str, tuple[str, ...]], LocalContext],
        open_inline: Callable[[tuple[tuple[str, str, int], ...]], Tree],
        network: Literal["host", "private"] = "host",
        joined: JoinedNetwork | None = None,
        secrets: Mapping[str, Secret] | None = None,
        oldest: float = 0.0,
        starting: Callable[[Node, Key, Sequence[Result]], None] = lambda node, key, results: None,
        committed: Callable[[Digest, SnapshotID | None], None] = lambda node, snapshot: None,
        services: Services | None = None,
        shared: SharedCaches | None = None,
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> None:
        self.root = root
        self.limits = limits
        self.snapshots = snapshots
        self.index = index
        self.images = images
        self.secrets = dict(secrets or {})
        self.network = network
        self.joined = joined
        """The network of the user's that steps are on, in the place of ``network``."""
        self.open_inline = open_inline
        self.selections: dict[tuple[Digest, int], Selection] = {}
        self.keys: dict[Digest, Digest] = {}
        """Of the nodes whose key is known."""
        self.unkept: set[Digest] = set()
        """Nodes whose results may differ from what their keys say, see keep()."""
        self.contents: dict[Digest, Preimage] = {}
        """What the content digests of keys were taken of."""
        self.graph = graph
        self.checkouts: dict[Digest, TemporaryDirectory] = {}
        """Git nodes' files that were fetched before the identity was entered."""
        self.definitions: dict[Digest, Digest] = {}
        """Node -> the key by which its content key is found before what it takes is built."""
        self.shared = shared
        self._services = services
        self._open_local = open_local
        self._locals: dict[tuple[str, tuple[str, ...]], LocalContext] = {}
        self.oldest = oldest
        """Results of RUN that were made before don't count; seconds since the epoch, 0: all count."""
        self.expired: set[Digest] = set()
        """Nodes of which that was so."""
        self.starting = starting
        """Called when a step begins to run, with the results it stands on, in its thread."""
        self.committed = committed
        self.keep_failed = False
        """Keep the state of the first RUN that fails."""
        self.failed: Failed | None = None
        self.cancelled = False
        self.running: set[Running] = set()
        self._prepare = prepare
        self._prepared = False

    @property
    def services(self) -> Services:
        if self._services is None:
            raise PybuildError("nothing can be fetched here")
        return self._services

    def keep(
        self, node: Node, key: Key, snapshot: SnapshotID, step: str, *, as_looked_at: bool = True
    ) -> None:
        """Put a step's result into the index, unless it may be another than the key says.

        That is so where what the step took from a build context changed after it was looked at, where the
        key was known by an alias (nobody looked then), and where it stands on such a result: its key is
        derived from that one's. ``step`` groups the runs of one step.
        """
        if key.record and as_looked_at and not self.doubts(node):
            self.index.put(key, snapshot, name=node.meta.name, step=step)
        else:
            self.unkept.add(node.digest)

    def doubts(self, node: Node) -> bool:
        """Whether the node stands on a result that was not kept: nothing is found by its key then."""
        return not self.unkept.isdisjoint(node.inputs)

    def prepare(self) -> None:
        if not self._prepared:
            self._prepare(self)
            self._prepared = True

    def cancel(self) -> None:
        """Kill what runs; what starts later is killed at once (see buildkit_py.worker.exec)."""
        self.cancelled = True
        for running in list(self.running):
            running.kill()

    def open_local(self, name: str, ignore: tuple[str, ...]) -> LocalContext:
        """A local context, opened once a build."""
        if (name, ignore) not in self._locals:
            self._locals[name, ignore] = self._open_local(name, ignore)
        return self._locals[name, ignore]

    def in_place(self, digest: Digest) -> LocalContext | None:
        """A node's tree where it can be read before anything runs (a local context, a heredoc)."""
        op = self.graph.nodes[digest].op
        if isinstance(op, LocalSource):
            return self.open_local(op.name, op.ignore)
        if isinstance(op, InlineSource):
            return LocalContext(self.open_inline(op.files), None)
        return None

    def fetched(self, results: Sequence[Result]) -> Sequence[Result]:
        """The results, with those brought here that were only promised."""
        if self.shared is None:
            return results
        shared = self.shared
        return [shared.fetch(r) if isinstance(r, Promised) else r for r in results]

    def tree_of(self, result: SnapshotID | Tree | None) -> Tree:
        """A node's result as a tree."""
        if result is None or isinstance(result, str):
            return self.snapshots.tree(SnapshotID(result) if result else None)
        return result
