from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from buildkit_py.digest import Digest
from buildkit_py.errors import ImageError, NotFoundError, RegistryError
from buildkit_py.exporter.push import push
from buildkit_py.oci import media
from buildkit_py.progress.events import StatusEvent
from buildkit_py.registry.settings import HostSettings, Settings
from tests.integration.registry.conftest import WorkbenchMaker
from tests.integration.registry.workbench import PLATFORM, Workbench
from tests.support.registry import Registry

pytestmark = [pytest.mark.needs("root"), pytest.mark.needs("docker-registry")]


def blobs(registry: Registry) -> Path:
    return registry.folder / "data" / "docker" / "registry" / "v2" / "blobs" / "sha256"


def blob_file(registry: Registry, digest: str) -> Path:
    return blobs(registry) / digest[7:9] / digest[7:] / "data"


def layers(registry: Registry, repository: str, tag: str = "1") -> list[str]:
    manifest = json.loads(registry.get(f"/v2/{repository}/manifests/{tag}"))
    return [layer["digest"] for layer in manifest["layers"]]


def test_there_and_back(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    name = f"{registry.address}/pp/app:1"
    product, image = here.build(name)
    digest = Digest(push(image, name, here.stores, here.events.append, "v")["digest"])
    pulled = there.sources.pull(name, PLATFORM, there.events.append, "v")
    assert pulled.id == image.id and pulled.manifest == digest
    assert there.files(there.sources.unpack(digest)) == here.files(product.snapshot)
    assert "old" not in there.files(there.sources.unpack(digest))
    assert there.images.repo_digests(image.id) == [f"{registry.address}/pp/app@{digest}"]


def test_an_index_in_an_index(registry: Registry, workbench: WorkbenchMaker) -> None:
    """The name means the image afterwards, and prune keeps what leads to it."""
    here, there = workbench(), workbench()
    name = f"{registry.address}/pp/nested:1"
    _, image = here.build(name)
    digest = Digest(push(image, name, here.stores)["digest"])
    client = here.sources.client
    kind, platform = media.OCI_MANIFEST, {"os": "linux", "architecture": "amd64"}
    for tag in ("2", "1"):
        entry = {"mediaType": kind, "digest": digest, "size": 1, "platform": platform}
        index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        kind = media.OCI_INDEX
        digest = client.put_manifest(registry.address, "pp/nested", tag, index, kind)
    pulled = there.sources.pull(name, PLATFORM)
    assert pulled.id == image.id and there.images.find(name).id == image.id
    assert [image.names for image in there.images.images()] == [(name,)], "none that a prune takes"
    assert there.images.find(name, PLATFORM).names == (name,)


def test_a_second_push_sends_nothing(registry: Registry, workbench: WorkbenchMaker) -> None:
    here = workbench()
    name = f"{registry.address}/pp/twice:1"
    _, image = here.build(name)
    first = push(image, name, here.stores)
    written = {p: p.stat().st_mtime_ns for p in blobs(registry).rglob("data")}
    assert push(image, name, here.stores) == first
    assert {p: p.stat().st_mtime_ns for p in blobs(registry).rglob("data")} == written
    kept = set(here.content.digests())
    assert not kept & set(map(Digest, layers(registry, "pp/twice"))), "compressed layers are not kept"


def test_another_repository_mounts(registry: Registry, workbench: WorkbenchMaker) -> None:
    here = workbench()
    _, image = here.build()
    push(image, f"{registry.address}/pp/one:1", here.stores)
    for snapshot in here.snapshots.usage()[::-1]:
        here.snapshots.remove(snapshot.snapshot)
    push(image, f"{registry.address}/pp/two:1", here.stores)
    assert layers(registry, "pp/one") == layers(registry, "pp/two")


def test_what_came_goes_out_as_it_came(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    _, image = here.build()
    pushed = push(image, f"{registry.address}/pp/orig:1", here.stores)
    pulled = there.sources.pull(f"{registry.address}/pp/orig:1", PLATFORM)
    assert push(pulled, f"{registry.address}/pp/copy:1", there.stores) == pushed
    # Also without unpacking: the blob is fetched for it.
    lazy = workbench()
    resolved = lazy.sources.resolve(f"{registry.address}/pp/orig:1", PLATFORM)
    found = lazy.images.by_manifest(resolved.digest)
    assert found is not None and lazy.snapshots.usage() == []
    assert push(found, f"{registry.address}/pp/lazy:1", lazy.stores) == pushed


def test_an_image_on_a_pulled_base(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    _, image = here.build()
    push(image, f"{registry.address}/pp/base:1", here.stores)
    base = there.sources.unpack(there.sources.resolve(f"{registry.address}/pp/base:1", PLATFORM).digest)
    snapshot = there.layer(base, lambda fs: (fs / "new").write_text("new"))
    there.export(f"type=image,name={registry.address}/pp/derived:1,push=true", there.product(snapshot))
    assert layers(registry, "pp/derived")[:2] == layers(registry, "pp/base")
    got = workbench()
    pulled = got.sources.pull(f"{registry.address}/pp/derived:1", PLATFORM)
    assert got.files(got.sources.unpack(pulled.id))["new"][3] == "new"


def test_resolving_is_lazy_and_local_first(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    name = f"{registry.address}/pp/lazy:2"
    _, image = here.build(name)
    digest = Digest(push(image, name, here.stores)["digest"])
    resolved = there.sources.resolve(name, PLATFORM)
    assert (resolved.digest, resolved.config) == (digest, image.config)
    assert there.snapshots.usage() == []
    assert not any(there.content.has(Digest(d)) for d in layers(registry, "pp/lazy", "2"))
    assert here.sources.resolve(name, PLATFORM).digest == image.id, "what is here needs no registry"


@pytest.mark.parametrize("known", [True, False])
def test_a_pull_that_fails_changes_nothing(mortal: Registry, workbench: WorkbenchMaker, known: bool) -> None:
    here, there = workbench(), workbench()
    name = f"{mortal.address}/pp/failing:1"
    _, old = here.build(name)
    push(old, name, here.stores)
    if known:
        there.sources.pull(name, PLATFORM)
    before = set(there.content.digests())
    snapshot = here.layer(None, lambda fs: (fs / "f").write_text("new"))
    here.export(f"type=image,name={name},push=true", here.product(snapshot))
    (layer,) = layers(mortal, "pp/failing")
    blob_file(mortal, layer).write_bytes(b"x" * blob_file(mortal, layer).stat().st_size)
    with pytest.raises(RegistryError, match="damaged"):
        there.sources.pull(name, PLATFORM)
    assert set(there.content.digests()) == before
    if known:
        assert there.images.find(name).id == old.id
    else:
        assert there.images.images() == []


def test_a_moved_tag(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    name = f"{registry.address}/pp/moving:1"
    _, old = here.build()
    push(old, name, here.stores)
    assert there.sources.find(name, PLATFORM).id == old.id
    product = here.product(here.layer(None, lambda fs: (fs / "x").write_text("x")))
    here.export(f"type=image,name={name},push=true", product)
    assert there.sources.find(name, PLATFORM).id == old.id
    assert there.sources.find(name, PLATFORM, pull=True).id != old.id
    assert there.sources.find(name, PLATFORM).id != old.id


def test_a_guarded_registry(guarded: Registry, workbench: WorkbenchMaker, tmp_path: Path) -> None:
    auth = tmp_path / "auth"
    auth.mkdir()
    entry = {"auth": "dXNlcjpzZWNyZXQ="}
    (auth / "config.json").write_text(json.dumps({"auths": {guarded.address: entry}}))
    here, stranger = workbench(auth=auth), workbench()
    name = f"{guarded.address}/pp/secret:1"
    _, image = here.build(name)
    push(image, name, here.stores)
    assert here.sources.pull(name, PLATFORM).id == image.id
    with pytest.raises(RegistryError, match="401") as caught:
        stranger.sources.pull(name, PLATFORM)
    assert "pybuild login" in caught.value.hint
    with pytest.raises(RegistryError, match="401"):
        stranger.build(name)
        push(stranger.images.find(name), name, stranger.stores)


def test_a_mirror_of_the_hub(registry: Registry, workbench: WorkbenchMaker) -> None:
    here = workbench()
    _, image = here.build()
    push(image, f"{registry.address}/library/pp-mirrored:1", here.stores)
    there = workbench(Settings({"docker.io": HostSettings(mirrors=(registry.address,))}))
    assert there.sources.pull("pp-mirrored:1", PLATFORM).id == image.id
    assert there.images.find("pp-mirrored:1").names == ("docker.io/library/pp-mirrored:1",)


def test_a_corrupted_blob_leaves_nothing(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    name = f"{registry.address}/pp/corrupt:1"
    snapshot = here.layer(None, lambda fs: (fs / "x").write_bytes(os.urandom(100_000)))
    here.export(f"type=image,name={name},push=true", here.product(snapshot))
    (digest,) = layers(registry, "pp/corrupt")
    file = blob_file(registry, digest)
    sound = file.read_bytes()
    file.write_bytes(sound[:-20] + bytes(20))
    with pytest.raises((RegistryError, ImageError)):
        there.sources.pull(name, PLATFORM)
    assert there.snapshots.usage() == [] and not there.content.has(Digest(digest))
    file.write_bytes(sound)
    there.sources.pull(name, PLATFORM)


def test_a_layer_unlike_its_config(registry: Registry, workbench: WorkbenchMaker) -> None:
    """The blob is what the manifest says, but not what the config says."""
    here, there = workbench(), workbench()
    _, image = here.build()
    push(image, f"{registry.address}/pp/honest:1", here.stores)
    manifest = json.loads(registry.get("/v2/pp/honest/manifests/1"))
    manifest["layers"].reverse()
    client = here.sources.client
    client.put_manifest(
        registry.address, "pp/honest", "swapped", json.dumps(manifest).encode(), manifest["mediaType"]
    )
    with pytest.raises(ImageError, match="its image says"):
        there.sources.pull(f"{registry.address}/pp/honest:swapped", PLATFORM)
    assert there.snapshots.usage() == []
    diff_ids = image.diff_ids
    assert all(there.images.layer_blob(d, ("x",)) is None for d in diff_ids)


def test_a_damaged_blob_in_the_store_is_fetched_again(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    name = f"{registry.address}/pp/powercut:1"
    _, image = here.build(name)
    push(image, name, here.stores)
    there.sources.pull(name, PLATFORM)
    for usage in there.snapshots.usage()[::-1]:
        there.snapshots.remove(usage.snapshot)
    victim = Path(there.content.path(Digest(layers(registry, "pp/powercut")[0])))
    victim.write_bytes(bytes(victim.stat().st_size))
    assert there.sources.unpack(image.id) is not None


def test_a_registry_that_goes_down(mortal: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    name = f"{mortal.address}/pp/down:1"
    _, image = here.build(name)
    push(image, name, here.stores)
    resolved = there.sources.resolve(name, PLATFORM)
    mortal.stop()
    try:
        with pytest.raises(RegistryError, match="connection refused"):
            there.sources.unpack(resolved.digest)
        with pytest.raises(RegistryError, match="connection refused"):
            push(image, name, here.stores)
        assert there.sources.find(name, PLATFORM).manifest == resolved.digest
    finally:
        mortal.start()
    assert there.sources.unpack(resolved.digest) is not None


def test_nothing_there(registry: Registry, workbench: WorkbenchMaker) -> None:
    with pytest.raises(NotFoundError, match="was not found"):
        workbench().sources.resolve(f"{registry.address}/pp/none:1", PLATFORM)


def test_an_image_without_layers(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    name = f"{registry.address}/pp/empty:1"
    here.export(f"type=registry,name={name}", here.product(None))
    resolved = there.sources.resolve(name, PLATFORM)
    assert there.sources.unpack(resolved.digest) is None


def test_progress_is_told(registry: Registry, workbench: WorkbenchMaker) -> None:
    here, there = workbench(), workbench()
    name = f"{registry.address}/pp/events:1"
    _, image = here.build(name)
    push(image, name, here.stores, here.events.append, "push")
    there.sources.pull(name, PLATFORM, there.events.append, "pull")
    for bench, words in ((here, ("pushing layer", "pushing manifest")), (there, ("sha256:", "extracting"))):
        status = [e for e in bench.events if isinstance(e, StatusEvent)]
        for word in words:
            mine = [e for e in status if e.id.startswith(word)]
            assert mine and mine[-1].completed is not None, word
    done = [e for e in there.events if isinstance(e, StatusEvent) and e.total and e.completed]
    assert len(done) == 2 and all(e.current == e.total for e in done)


def test_many_processes_pull_one_image(registry: Registry, workbench: WorkbenchMaker, tmp_path: Path) -> None:
    here = workbench()
    name = f"{registry.address}/pp/crowd:1"
    _, image = here.build(name)
    push(image, name, here.stores)
    root = tmp_path / "crowd"
    Workbench(root).close()
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                bench = Workbench(root)
                status = 0 if bench.sources.pull(name, PLATFORM).id == image.id else 2
            finally:
                os._exit(status)
        children.append(child)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0, 0, 0]
    bench = Workbench(root)
    assert len(bench.snapshots.usage()) == 2
    bench.close()


def test_a_pull_that_is_killed(registry: Registry, workbench: WorkbenchMaker, tmp_path: Path) -> None:
    here = workbench()
    name = f"{registry.address}/pp/killed:1"
    snapshot = here.layer(None, lambda fs: (fs / "big").write_bytes(os.urandom(20 << 20)))
    here.export(f"type=image,name={name},push=true", here.product(snapshot))
    root = tmp_path / "killed"
    child = os.fork()
    if child == 0:
        try:
            bench = Workbench(root)
            bench.sources.pull(name, PLATFORM, lambda event: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    bench = Workbench(root)
    assert bench.sources.unpack(bench.sources.pull(name, PLATFORM).id) is not None
    bench.close()
