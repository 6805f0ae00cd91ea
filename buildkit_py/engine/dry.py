"""An engine on a store that it does not change: for saying what a build would do.

The index is a copy in memory. What must be fetched to know more (an image's manifest, a file by HTTP, a
repository that holds the Dockerfile) is put into a directory of its own, which is removed at the end.
Snapshots and blobs of the store are read where they lie.
"""

from __future__ import annotations

import os
from functools import cached_property
from tempfile import mkdtemp

from buildkit_py.cache.inputs import FileState, KeyInputs
from buildkit_py.content.store import ContentStore
from buildkit_py.database import Database
from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.engine import Engine
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.snapshot.store import SnapshotStore
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGE = ("contents", "builds")
"""Tables of which no copy is made."""


class DryEngine(Engine):
    """A context manager."""

    def __init__(self, real: Engine) -> None:
        self.real = real
        super().__init__(mkdtemp(prefix="pybuild-plan-"))

    @cached_property
    def db(self) -> Database:
        _ = self.real.db  # makes the file where there is none
        return Database.copy(os.path.join(self.real.root, "index.db"), _LARGE)

    @cached_property
    def content(self) -> ContentStore:
        return _Content(self.root, self.real.content)

    @cached_property
    def snapshots(self) -> SnapshotStore:
        return _Snapshots(self.real.root, self.db)

    @cached_property
    def inputs(self) -> KeyInputs:
        return _Inputs(self.db, self.real.inputs)

    def close(self) -> None:
        super().close()
        if "db" in self.__dict__:
            self.db.close()
        remove_tree(self.root)

    def __enter__(self) -> DryEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Content(ContentStore):
    """Blobs of a store, and new ones beside it."""

    def __init__(self, root: str, real: ContentStore) -> None:
        super().__init__(root)
        self._real = real

    def path(self, digest: Digest) -> str:
        own = super().path(digest)
        return self._real.path(digest) if self._real.has(digest) and not os.path.exists(own) else own

    def delete(self, digest: Digest) -> int:
        return 0

    def _place(self, staged: str, digest: Digest) -> None:
        target = super().path(digest)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        os.rename(staged, target)


class _Snapshots(SnapshotStore):
    def tree(self, id: SnapshotID | None) -> LayerTree:
        """However deep the stack is: nothing is squashed for it."""
        layers = tuple(self.layer_path(info) for info in reversed(self.chain(id)))
        return LayerTree(layers, recorded=self._mode == "single")


class _Inputs(KeyInputs):
    """With the file lists of the store."""

    def __init__(self, db: Database, real: KeyInputs) -> None:
        super().__init__(db)
        self._real = real

    def files(self, digest: str, roots: Sequence[tuple[int, str]] = ()) -> dict[str, FileState] | None:
        return super().files(digest, roots) or self._real.files(digest, roots)
