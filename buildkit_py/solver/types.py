"""The three names of the solver: a vertex's Key, its Result, and the Ops that know how to get them."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Node
from buildkit_py.progress.events import Emit
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any, Protocol

Result = Any
"""What an op makes: a SnapshotID (None: the empty snapshot), or a Tree for a local source.
The solver passes it on and never looks inside."""


class Key(NamedTuple):
    """A cache key: ``digest`` names the result; ``record`` is what was hashed, for explaining."""

    digest: Digest
    record: dict[str, Any]
    expired: bool = False
    """Whether what is kept under it is too old to be used."""


class Hit(NamedTuple):
    result: Result


class Ops(Protocol):
    """All policy: how keys are made, how ops run, where results are kept. Called from any thread."""

    def prepare(self) -> None:
        """Called on the solving thread before the first thread is made: what must happen in a process
        without threads (entering a user namespace, forking a helper) happens here. May be called again."""
        ...

    def key(self, node: Node, inputs: Sequence[Digest], by_content: bool) -> Key | None:
        """The key by what is known before anything runs; None where an input's content decides.

        ``inputs`` are the keys of the node's inputs. ``by_content``: what an input held when it last had
        this key says nothing.
        """
        ...

    def content_key(self, node: Node, inputs: Sequence[Digest], results: Sequence[Result]) -> Key:
        """The key where key() gave None, from the content of the inputs."""
        ...

    def needs_content_of(self, node: Node) -> tuple[int, ...]:
        """Which inputs' results content_key() looks at, by index."""
        ...

    def load(self, node: Node, key: Key) -> Hit | None:
        """Find a kept result. Not asked for a node that must not use the cache."""
        ...

    def used(self, key: Key) -> None:
        """A kept result spares its step, whether it was loaded or stands under one that was."""
        ...

    def run(
        self, node: Node, key: Key, results: Sequence[Result], emit: Emit, *, forced: bool
    ) -> Result | Hit:
        """Make the result and keep it under key. Unless ``forced``, it may be a Hit: another build has made
        it in the meantime."""
        ...

    def cancel(self) -> None:
        """Make every run() that is under way end soon, with whatever error."""
        ...
