"""A store with things broken in it: each is found, named, and mended or dropped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit_py.digest import DiffID, Digest, SnapshotID, chain_id
from buildkit_py.engine.prune import PruneRequest, prune
from buildkit_py.engine.store_check import Checked, check
from buildkit_py.image.assemble import LayerBlob, config_bytes, manifest_bytes
from buildkit_py.layer.diff import diff_id, write_layer
from buildkit_py.oci import media
from tests.support.store import Store

pytestmark = pytest.mark.needs("root")


def told(checked: Checked) -> list[tuple[str, str]]:
    return [(finding.kind, finding.mend) for finding in checked.findings]


def once(store: Store) -> list[tuple[str, str]]:
    """What is found; a second look must find nothing. A dry run beforehand tells what is wrong, not what
    mending that takes along."""
    before = told(check(store, mend=False))
    found = told(check(store))
    assert before == found[: len(before)]
    assert check(store).findings == ()
    return found


def measured(store: Store, snapshot: SnapshotID) -> DiffID:
    """Take a layer's diff id, as a build does."""
    info = store.snapshots.chain(snapshot)[-1]
    parent = store.snapshots.parent(snapshot)
    found = diff_id(store.snapshots.layer_path(info), lower=store.snapshots.tree(parent) if parent else None)
    store.snapshots.set_diff_id(snapshot, found)
    return found


def file_of(store: Store, snapshot: SnapshotID) -> Path:
    return Path(store.snapshots.layer_path(store.snapshots.chain(snapshot)[-1]), "file")


def test_a_sound_store(store: Store) -> None:
    base = store.layer()
    top = store.layer(base)
    store.keep(top, "RUN x")
    diffs = [measured(store, base), measured(store, top)]
    image = store.images.put(config_bytes({"architecture": "amd64", "os": "linux"}, diffs))
    store.images.tag("app:1", image)
    checked = check(store)
    assert (checked.findings, checked.layers, checked.unchecked, checked.records) == ((), 2, 0, 1)


def test_a_blob(store: Store) -> None:
    digest = store.content.write(b"right")
    Path(store.content.path(digest)).write_bytes(b"wrong")
    assert once(store) == [("blob", "removed")]
    assert not store.content.has(digest)


def test_a_changed_layer_goes_with_all_that_stands_on_it(store: Store) -> None:
    base = store.layer()
    changed = store.layer(base)
    top = store.layer(changed)
    for name, snapshot in (("base", base), ("changed", changed), ("top", top)):
        store.keep(snapshot, name)
        measured(store, snapshot)
    file_of(store, changed).write_text("damaged")
    assert once(store) == [("layer", "forgotten"), ("record", "forgotten"), ("record", "forgotten")]
    assert [record.name for record in store.index.records()] == ["base"]
    assert [u.snapshot for u in store.snapshots.usage()] == [base]


def test_a_layer_without_a_digest_is_not_trusted_beside_a_changed_one(store: Store) -> None:
    """As a power cut leaves a build: an image would be made again of what the stage has lost."""
    image, stage = store.layer(), store.layer()
    above = store.layer(image)
    for name, snapshot in (("image", image), ("stage", stage), ("above", above)):
        store.keep(snapshot, name)
    measured(store, image)
    assert check(store).unchecked == 2
    for snapshot in (image, stage, above):
        file_of(store, snapshot).write_text("")
    assert once(store) == [("layer", "forgotten"), ("layer", "forgotten"), *[("record", "forgotten")] * 3]
    assert list(store.index.records()) == [] and store.snapshots.usage() == []


def booted(store: Store, ago: float) -> None:
    """All was made ``ago`` seconds before the last of it, in a boot before this one."""
    store.db.run("UPDATE snapshots SET created = created - ? WHERE id != ?", (ago, str(store.layer())))
    store.db.run("UPDATE boots SET boot = 'another'")


@pytest.mark.parametrize(("ago", "left"), [(100, {"image", "stage"}), (10, set())])
def test_after_a_power_cut_what_was_made_last_is_checked(store: Store, ago: float, left: set[str]) -> None:
    """What was made long before was on the disk."""
    image, stage = store.layer(), store.layer()
    for name, snapshot in (("image", image), ("stage", stage)):
        store.keep(snapshot, name)
    measured(store, image)
    store.after_boot()
    file_of(store, image).write_text("")
    store.after_boot()
    assert store.snapshots.exists(image), "of this boot nothing is read"
    booted(store, ago)
    store.after_boot()
    assert {record.name for record in store.index.records()} == left
    assert store.snapshots.exists(stage) == bool(left)


def test_after_a_restart_sound_layers_stay(store: Store) -> None:
    image, stage = store.layer(), store.layer()
    for name, snapshot in (("image", image), ("stage", stage)):
        store.keep(snapshot, name)
    measured(store, image)
    store.after_boot()
    booted(store, 0)
    store.after_boot()
    assert {record.name for record in store.index.records()} == {"image", "stage"}
    last = store.snapshots.newest()
    assert store.db.one("SELECT checked FROM boots") == (last,)
    # What was right once is not read again.
    file_of(store, image).write_text("")
    store.db.run("UPDATE boots SET boot = 'another'")
    store.after_boot()
    assert store.snapshots.exists(image)


def test_a_layer_that_is_gone(store: Store) -> None:
    snapshot = store.layer()
    store.keep(snapshot, "RUN x")
    os.rename(file_of(store, snapshot).parent.parent, Path(store.root, "elsewhere"))
    assert once(store) == [("snapshot", "forgotten"), ("record", "forgotten")]
    assert list(store.index.records()) == []


def test_a_pulled_layer_is_unpacked_again(store: Store) -> None:
    snapshot = store.layer()
    info = store.snapshots.chain(snapshot)[-1]
    with store.content.writer() as writer:
        diff = write_layer(store.snapshots.layer_path(info), writer.write)
        blob = LayerBlob(media.OCI_LAYER, writer.commit(), writer.size)
    store.snapshots.set_diff_id(snapshot, diff)
    store.images.remember_blob(diff, blob)
    config = config_bytes({"architecture": "amd64", "os": "linux"}, [diff])
    image = store.images.put(config, manifest=manifest_bytes(config, [blob]))
    store.images.tag("app:1", image)
    assert check(store).layers == 1
    file_of(store, snapshot).write_text("damaged")
    assert once(store) == [("layer", "unpacked again")]
    assert file_of(store, snapshot).read_text() == "content"
    assert store.snapshots.by_chain_id(chain_id(None, diff)) == snapshot


def test_an_image_that_lost_a_layer_is_named(store: Store) -> None:
    snapshot = store.layer()
    diff = measured(store, snapshot)
    store.images.tag(
        "app:1", store.images.put(config_bytes({"architecture": "amd64", "os": "linux"}, [diff]))
    )
    file_of(store, snapshot).unlink()
    checked = check(store)
    assert told(checked) == [("layer", "forgotten"), ("image", "")]
    assert checked.findings[1].id == "docker.io/library/app:1"


def test_rows_that_lead_nowhere(store: Store) -> None:
    store.keep(SnapshotID("nowhere"), "RUN x")
    store.index.put_alias(Digest("sha256:a"), Digest("sha256:b"))
    store.images.tag("app:1", Digest("sha256:" + "0" * 64))
    assert once(store) == [("record", "forgotten"), ("alias", "forgotten"), ("name", "removed")]


def test_what_killed_processes_left(store: Store) -> None:
    kept = store.layer()
    store.keep(kept, "RUN x")
    left = [
        "staging/0123",
        "staging/tmp-1/tree",
        "snapshots/ids/.new-0-1/fs",
        "snapshots/ids/0123456789abcdef/fs",
        "cache-mounts/m/data.1-2",
        "contexts/c.memo.77.abc",
        "git/g.git/index-1234",
    ]
    for name in left:
        Path(store.root, name).mkdir(parents=True)
    checked = check(store, mend=False)
    assert len(checked.findings) == len(left) and not checked.broken
    prune(store, PruneRequest())
    assert check(store).findings == ()
    assert not [name for name in left if Path(store.root, name).exists()]
    assert store.snapshots.exists(kept)
