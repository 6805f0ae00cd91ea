"""Pruning on a real store: what roots lead to stays, everything else goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.cache import keys
from buildkit_py.digest import DiffID, SnapshotID
from buildkit_py.engine import Engine
from buildkit_py.engine.prune import PruneRequest, kept_snapshots, prune
from buildkit_py.image.assemble import config_bytes
from buildkit_py.linux.identity import Identity

pytestmark = pytest.mark.needs("root")

A, B = (DiffID("sha256:" + letter * 64) for letter in "ab")
EVERYTHING = PruneRequest(containers=True, images=True, all_images=True, cache=True)


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


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    engine = Store(str(tmp_path))
    engine.enter()
    yield engine
    engine.snapshots.close()
    engine.close()
    engine.db.close()


def test_everything_goes(store: Store) -> None:
    store.keep(store.layer(store.layer()), "RUN x")
    image = store.images.put(config_bytes({"architecture": "amd64", "os": "linux"}, []))
    store.images.tag("app:1", image)
    pruned = prune(store, EVERYTHING)
    assert pruned.images == ("docker.io/library/app:1",)
    assert pruned.records == ("RUN x",)
    assert pruned.freed > 0
    assert store.snapshots.usage() == []
    assert list(store.content.digests()) == []
    left = [p for p in Path(store.root, "snapshots", "ids").iterdir() if not p.name.startswith(".")]
    assert left == []


def test_the_layers_of_a_named_image_stay(store: Store) -> None:
    base = store.layer(None, A)
    top = store.layer(base, B)
    stray = store.layer(base)
    image = store.images.put(config_bytes({"architecture": "amd64", "os": "linux"}, [A, B]))
    store.images.tag("app:1", image)
    prune(store, PruneRequest(images=True, cache=True))
    assert {u.snapshot for u in store.snapshots.usage()} == {base, top}
    assert stray not in kept_snapshots(store)
    assert store.images.find("app:1").id == image


def test_cache_records_keep_their_snapshots(store: Store) -> None:
    top = store.layer(store.layer())
    store.keep(top, "RUN x")
    prune(store, PruneRequest(containers=True, images=True))
    assert top in {u.snapshot for u in store.snapshots.usage()}


def test_a_dry_run_removes_nothing(store: Store) -> None:
    store.keep(store.layer(), "RUN x")
    pruned = prune(store, EVERYTHING._replace(dry_run=True))
    assert pruned.records == ("RUN x",)
    assert pruned.freed == 0
    assert len(store.snapshots.usage()) == 1


def test_records_used_lately_stay_when_asked(store: Store) -> None:
    store.keep(store.layer(), "RUN x")
    assert prune(store, PruneRequest(cache=True, unused_for=3600)).records == ()
    assert prune(store, PruneRequest(cache=True)).records == ("RUN x",)


def test_a_container_that_ended_goes_and_one_that_runs_keeps_its_image(store: Store) -> None:
    snapshot = store.layer(None, A)
    image = store.images.put(config_bytes({"architecture": "amd64", "os": "linux"}, [A]))
    made = [
        store.containers.create(
            name=name, image=image, ref="app", snapshot=snapshot, command="sh", remove=False
        )
        for name in ("ended", "running")
    ]
    store.containers.ended(made[0], 0)
    pruned = prune(store, EVERYTHING)
    assert pruned.containers == (made[0].id,)
    assert [c.name for c in store.containers.list()] == ["running"]
    assert store.images.find(image).id == image
    assert [u.snapshot for u in store.snapshots.usage()] == [snapshot]
    assert os.path.isdir(store.containers.path(made[1], "fs"))
