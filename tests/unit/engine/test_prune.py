"""Pruning on a real store: what roots lead to stays, everything else goes."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from buildkit_py.cache import keys
from buildkit_py.cache.eviction import Rule
from buildkit_py.digest import ChainID, DiffID
from buildkit_py.engine.garbage import mark, sweep_marked
from buildkit_py.engine.prune import Pruned, PruneRequest, kept_snapshots, prune, try_prune
from buildkit_py.image.assemble import config_bytes
from buildkit_py.runtime.container import lock
from tests.support.containers import config
from tests.support.store import Store

pytestmark = pytest.mark.needs("root")

A, B = (DiffID("sha256:" + letter * 64) for letter in "ab")
EVERYTHING = PruneRequest(containers=True, images=True, all_images=True, rules=(Rule(),))


def names(pruned: Pruned) -> list[str]:
    return [item.name for item in pruned.items]


def test_everything_goes(store: Store) -> None:
    store.keep(store.layer(store.layer()), "RUN x")
    image = store.images.put(config_bytes({"architecture": "amd64", "os": "linux"}, []))
    store.images.tag("app:1", image)
    pruned = prune(store, EVERYTHING)
    assert pruned.images == ("docker.io/library/app:1",)
    assert names(pruned) == ["RUN x"]
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
    prune(store, PruneRequest(images=True, rules=(Rule(),)))
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
    assert names(pruned) == ["RUN x"]
    assert pruned.freed > 0
    assert len(store.snapshots.usage()) == 1


def test_records_used_lately_stay_when_asked(store: Store) -> None:
    store.keep(store.layer(), "RUN x")
    assert prune(store, PruneRequest(rules=(Rule(keep_duration=3600),))).items == ()
    assert names(prune(store, PruneRequest(rules=(Rule(),)))) == ["RUN x"]


def test_a_container_that_ended_goes_and_one_that_runs_keeps_its_image(store: Store) -> None:
    snapshot = store.layer(None, A)
    image = store.images.put(config_bytes({"architecture": "amd64", "os": "linux"}, [A]))
    made = [
        store.containers.create(config(store.containers.new_id(), name, image=image, snapshot=snapshot))
        for name in ("ended", "running")
    ]
    held = lock(made[1].path)
    pruned = prune(store, EVERYTHING)
    os.close(held)
    assert pruned.containers == (made[0].id,)
    assert [c.name for c in store.containers.list()] == ["running"]
    assert store.images.find(image).id == image
    assert [u.snapshot for u in store.snapshots.usage()] == [snapshot]
    assert os.path.isdir(made[1].part("fs"))


def test_labels_and_ages_choose_images(store: Store) -> None:
    for name in ("kept", "old"):
        document = {"architecture": "amd64", "os": "linux", "config": {"Labels": {name: "1"}}}
        store.images.tag(f"{name}:1", store.images.put(config_bytes(document, [])))
    everything = PruneRequest(all_images=True, dry_run=True)
    chosen = {
        "labels": everything._replace(labels=("old=1",)),
        "not_labels": everything._replace(not_labels=("kept",)),
        "both": everything._replace(labels=("old",), not_labels=("old=1",)),
        "until": everything._replace(until=1.0),
    }
    found = {name: prune(store, request).images for name, request in chosen.items()}
    old = ("docker.io/library/old:1",)
    assert found == {"labels": old, "not_labels": old, "both": (), "until": ()}


def test_anonymous_volumes_that_nobody_has_go_when_asked(store: Store) -> None:
    free, named = store.volumes.create().name, store.volumes.create("named").name
    prune(store, PruneRequest(containers=True, images=True))
    assert {volume.name for volume in store.volumes.list()} == {free, named}
    assert prune(store, PruneRequest(volumes=True, dry_run=True)).volumes == (free,)
    assert prune(store, PruneRequest(volumes=True)).volumes == (free,)
    assert [volume.name for volume in store.volumes.list()] == [named]


def test_what_an_image_stands_on_is_forgotten_only_when_asked(store: Store) -> None:
    base = store.layer(None, A)
    store.keep(base, "RUN base")
    store.keep(store.layer(base), "RUN more")
    store.images.tag("app:1", store.images.put(config_bytes({"architecture": "amd64", "os": "linux"}, [A])))
    assert names(prune(store, PruneRequest(rules=(Rule(),)))) == ["RUN more"]
    assert names(prune(store, PruneRequest(rules=(Rule(all=True),)))) == ["RUN base"]
    assert [u.snapshot for u in store.snapshots.usage()] == [base]


def test_who_uses_a_step_uses_those_below_it(store: Store) -> None:
    base = store.layer()
    store.keep(base, "RUN base")
    store.db.run("UPDATE results SET used = used - 7200")
    store.keep(store.layer(base), "RUN more")
    assert prune(store, PruneRequest(rules=(Rule(keep_duration=3600),))).items == ()


def test_other_things_in_the_cache(store: Store) -> None:
    root = Path(store.root)
    for place, text in (
        ("cache-mounts/m/data/f", "x" * 10_000),
        ("cache-mounts/m/id", "/root/.cache"),
        ("contexts/c.memo", "x"),
        ("contexts/c.bin", "x"),
        ("git/g.git/description", "https://example.com/a.git\n"),
        ("git/g.lock", ""),
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    found = {item.kind: item for item in store.inventory().items}
    assert found["exec.cachemount"].name == "cache mount /root/.cache"
    assert found["exec.cachemount"].size >= 10_000
    assert found["source.git.checkout"].name == "git repository https://example.com/a.git"
    for kind in ("exec.cachemount", "source.local", "source.git.checkout"):
        (gone,) = prune(store, PruneRequest(rules=(Rule(kinds=(kind,)),))).items
        assert gone.kind == kind
    left = [p for folder in ("cache-mounts", "contexts", "git") for p in (root / folder).iterdir()]
    assert left == []


def test_a_shared_store_is_left_alone(store: Store) -> None:
    store.keep(store.layer(), "RUN x")
    other = Store(store.root)
    other.share()
    assert try_prune(store, PruneRequest(rules=(Rule(),))) is None
    other.close()
    pruned = try_prune(store, PruneRequest(rules=(Rule(),)))
    assert pruned is not None and names(pruned) == ["RUN x"]


class Other(Store):
    """Another process, as far as locks go."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.root)
        self.enter()
        self.share()

    def close(self) -> None:
        super().close()
        self.snapshots.close()
        self.db.close()


def left(store: Store) -> set[str]:
    return {usage.snapshot for usage in store.snapshots.usage()}


ANY = (Rule(),)


def test_beside_a_build_what_it_may_use_stays(store: Store) -> None:
    """A result is forgotten at once, its files go when those that may have found it have ended."""
    base = store.layer()
    store.keep(base, "RUN base")
    old = Other(store)
    store.share()
    assert [item.name for item in mark(store, ANY, wait=False)] == ["RUN base"]
    store.close()
    assert old.index.made(keys.key_of({"step": "RUN base"}).digest) is None
    later = Other(store)
    later.keep(later.layer(), "RUN later")
    assert sweep_marked(later, wait=False) == 0
    assert base in left(later) and os.path.isdir(old.snapshots.layers(base)[0])
    assert mark(later, ANY, wait=False) == (), "something is marked already"
    old.close()
    assert sweep_marked(later, wait=False) > 0
    assert base not in left(later) and len(left(later)) == 1
    assert not Path(store.root, "lock.old").exists()
    later.close()


def test_what_is_needed_again_is_spared(store: Store) -> None:
    found, named, below, gone = (store.layer(None, DiffID("sha256:" + digit * 64)) for digit in "1234")
    for snapshot in (found, named, below, gone):
        store.keep(snapshot, f"RUN {snapshot}")
    old = Other(store)
    store.share()
    mark(store, ANY, wait=False)
    old.keep(named, "RUN again")
    above = old.layer(below)
    old.keep(above, "RUN above")
    store.close()
    later = Other(store)
    assert later.snapshots.by_chain_id(ChainID("sha256:" + "1" * 64)) == found
    old.close()
    sweep_marked(later, wait=False)
    assert left(later) == {found, named, below, above}
    # No root leads to what was found, so the next marking takes it.
    later.close()
    last = Other(store)
    last.snapshots.by_chain_id(ChainID("sha256:" + "1" * 64))
    prune(last, PruneRequest())
    assert left(last) == {named, below, above}
    last.close()


def test_blobs_that_nobody_held(store: Store) -> None:
    blobs = [store.content.write(name.encode()) for name in ("old", "held", "young")]
    for blob in blobs:
        os.utime(store.content.path(blob), (1, 1))
    store.share()
    mark(store, (), wait=True)
    store.close()
    later = Other(store)
    assert later.content.hold(blobs[1])
    later.content.write(b"young")
    sweep_marked(later, wait=False)
    assert set(later.content.digests()) == set(blobs[1:])
    later.close()


def test_a_prune_beside_a_build_waits_for_those_before_it_alone(store: Store) -> None:
    store.keep(store.layer(), "RUN x")
    earlier = Other(store)
    answers: list[Pruned] = []
    pruning = threading.Thread(target=lambda: answers.append(prune(store, PruneRequest(rules=ANY))))
    pruning.start()
    while not Path(store.root, "lock.old").exists():
        os.sched_yield()
    later = Other(store)
    assert left(later) and not answers
    earlier.close()
    pruning.join(30)
    assert names(answers[0]) == ["RUN x"] and answers[0].left and answers[0].freed > 0
    assert left(later) == set()
    later.close()


def test_a_killed_collector_leaves_its_work_to_the_next(store: Store) -> None:
    store.keep(store.layer(), "RUN x")
    stray = store.layer()
    store.share()
    mark(store, ANY, wait=False)
    store.close()
    # Killed: the marks are there, and nobody holds the old lock.
    pruned = prune(store, PruneRequest(rules=ANY))
    assert left(store) == set() and pruned.freed > 0 and stray not in left(store)
    assert store.snapshots.doomed() == [] and not Path(store.root, "lock.old").exists()


def test_who_waits_to_collect_keeps_nobody_waiting(store: Store) -> None:
    """A collector holds ``gc`` and waits for all that hold the old lock: who waits for ``gc`` must not."""
    store.share()
    gc = os.open(os.path.join(store.root, "gc"), os.O_RDWR | os.O_CREAT)
    lock = os.open(os.path.join(store.root, "lock"), os.O_RDWR)
    fcntl.flock(gc, fcntl.LOCK_EX)
    second = threading.Thread(target=mark, args=(store, ()), kwargs={"wait": True})
    first = threading.Thread(target=fcntl.flock, args=(lock, fcntl.LOCK_EX))
    second.start()
    first.start()
    try:
        first.join(20)
        assert not first.is_alive()
    finally:
        os.close(gc)
        first.join(20)
        os.close(lock)
        second.join(20)
    assert os.path.exists(os.path.join(store.root, "lock.old"))
