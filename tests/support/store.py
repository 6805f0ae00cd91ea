"""A real store in the test's own process."""

from __future__ import annotations

from pathlib import Path

from buildkit_py.cache import keys
from buildkit_py.digest import DiffID, SnapshotID
from buildkit_py.engine import Engine
from buildkit_py.linux.identity import Identity


class Store(Engine):
    """An engine that is root already: a test process stays in its namespaces."""

    def enter(self) -> None:
        self._identity = Identity("root")
        self.snapshots.use(self._identity)

    def layer(self, parent: SnapshotID | None = None, diff: DiffID | None = None) -> SnapshotID:
        with self.snapshots.prepare(parent) as staged:
            Path(staged.fs, "file").write_text("content")
            return self.snapshots.commit(staged, parent, diff_id=diff)

    def keep(self, snapshot: SnapshotID, name: str) -> None:
        self.index.put(keys.key_of({"step": name}), snapshot, name=name, step=name)
