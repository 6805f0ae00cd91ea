from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.content.store import ContentStore
from buildkit_py.database import Database
from buildkit_py.digest import DiffID, Digest, of_bytes
from buildkit_py.errors import NotFoundError, UsageError
from buildkit_py.image import assemble, reference
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.store import ImageStore
from buildkit_py.oci import media


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = Database(str(tmp_path / "index.db"))
    yield db
    db.close()


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path))


@pytest.fixture
def images(db: Database, content: ContentStore) -> ImageStore:
    return ImageStore(db, content)


def config(word: str = "x", architecture: str = "amd64", layers: int = 1) -> bytes:
    document = {"os": "linux", "architecture": architecture, "config": {"Cmd": [word]}}
    return assemble.config_bytes(document, [DiffID(of_bytes(f"{word}{n}".encode())) for n in range(layers)])


def manifest(data: bytes, content: ContentStore) -> bytes:
    blob = content.write(b"layer of " + of_bytes(data).encode())
    return assemble.manifest_bytes(data, [LayerBlob(media.OCI_LAYER_GZIP, blob, content.size(blob))])


def test_an_image_built_here(images: ImageStore) -> None:
    image_id = images.put(config(), size=42)
    assert images.tag("app:1", image_id) == "docker.io/library/app:1"
    image = images.find("app:1")
    assert (image.id, image.manifest, image.platform, image.size) == (image_id, None, "linux/amd64", 42)
    assert image.names == ("docker.io/library/app:1",)
    assert images.find(image_id) == images.find(image_id[7:19]) == images.find(image_id[7:]) == image
    assert images.manifest(image) is None
    assert images.put(config()) == image_id


def test_an_image_that_came_with_a_manifest(images: ImageStore, content: ContentStore) -> None:
    data = manifest(config(), content)
    image_id = images.put(config(), manifest=data)
    image = images.by_manifest(of_bytes(data))
    assert image is not None and image.id == image_id and image.size > 0
    assert images.by_any_digest(of_bytes(data)) == images.by_any_digest(image_id)
    pinned = reference.parse(f"whatever@{of_bytes(data)}")
    assert images.lookup(pinned, "linux/amd64") == image
    assert images.lookup(pinned, "linux/arm64") is None


def test_a_second_manifest_of_the_same_image(images: ImageStore, content: ContentStore) -> None:
    first = manifest(config(), content)
    second = assemble.manifest_bytes(config(), [], {"compressed": "otherwise"})
    images.put(config(), manifest=first)
    images.put(config(), manifest=second)
    one, two = images.by_manifest(of_bytes(first)), images.by_manifest(of_bytes(second))
    assert one is not None and two is not None and one.id == two.id
    assert two.manifest == of_bytes(second)
    assert images.images()[0].manifest == of_bytes(first)


def test_not_found(images: ImageStore) -> None:
    for text in ("nowhere", "nowhere:1", "abc123", of_bytes(b""), of_bytes(b"")[7:]):
        with pytest.raises(NotFoundError, match="no such image"):
            images.find(text)
    with pytest.raises(UsageError):
        images.find("Not A Name")


def test_a_name_moves(images: ImageStore) -> None:
    one, two = images.put(config("one")), images.put(config("two"))
    images.tag("app", one)
    images.tag("app", two)
    assert images.find("app").id == two
    assert [i.id for i in images.images() if not i.names] == [one]


def test_platforms(images: ImageStore) -> None:
    images.tag("app", images.put(config(architecture="arm64")))
    ref = reference.parse("app")
    assert images.lookup(ref, "linux/amd64") is None
    assert images.lookup(ref, "linux/arm64") is not None
    assert images.lookup(ref, "linux/arm64/v8") is not None
    assert images.lookup(ref) is not None


def test_an_index_of_what_was_built_here(images: ImageStore, content: ContentStore) -> None:
    ids = [images.put(config(architecture=name)) for name in ("amd64", "arm64")]
    both = [image for image in map(images.by_id, ids) if image is not None]
    images.tag("app", images.put_index(both), "index")
    assert [i.id for i in images.platforms("app")] == ids
    for image in both:
        assert images.find("app", image.platform).id == image.id
        assert images.find(image.id).names == ("docker.io/library/app:latest",)
    images.retag("app", "other")
    assert [i.id for i in images.platforms("other")] == ids
    assert images.platforms(ids[1]) == [images.find(ids[1])]
    images.retag(ids[1], "alone")
    assert [i.id for i in images.platforms("alone")] == ids[1:]
    assert images.remove("app").deleted == ()
    assert images.remove("other").deleted == (ids[0],)
    assert images.remove("alone").deleted == (ids[1],)
    assert list(content.digests()) == []


def test_a_name_without_this_machines_platform_means_what_is_there(images: ImageStore) -> None:
    ids = [images.put(config(architecture=name)) for name in ("riscv64", "s390x")]
    images.tag("app", images.put_index([i for i in map(images.by_id, ids) if i is not None]), "index")
    assert images.find("app").id == ids[0]
    assert images.lookup(reference.parse("app"), "linux/amd64") is None


def test_an_index_means_the_image_of_a_platform(images: ImageStore, content: ContentStore) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        data = config(architecture=architecture)
        document = manifest(data, content)
        if architecture == "amd64":
            images.put(data, manifest=document)
        entry = assemble.descriptor(media.OCI_MANIFEST, of_bytes(document), len(document))
        entry["platform"] = {"os": "linux", "architecture": architecture}
        entries.append(entry)
    index = content.write(assemble.index_bytes(entries))
    images.tag("multi", index, "index")
    ref = reference.parse("multi")
    image = images.lookup(ref, "linux/amd64")
    assert image is not None and image.platform == "linux/amd64"
    assert images.lookup(ref, "linux/arm64") is None, "not fetched so far"
    assert images.lookup(reference.parse(f"multi@{index}"), "linux/amd64") == image
    assert images.find(image.id).names == ("docker.io/library/multi:latest",)
    assert images.images()[0].names == ("docker.io/library/multi:latest",)
    removed = images.remove("multi")
    assert removed.deleted == (image.id,) and list(content.digests()) == [
        d for d in content.digests() if d not in (index, image.id)
    ]


def test_removing(images: ImageStore, content: ContentStore) -> None:
    image_id = images.put(config(), manifest=manifest(config(), content))
    images.tag("a", image_id)
    images.tag("b", image_id)
    with pytest.raises(UsageError, match="has 2 names"):
        images.remove(image_id)
    assert images.remove("a").deleted == ()
    removed = images.remove("b")
    assert removed.deleted == (image_id,) and removed.freed > 0
    assert list(content.digests()) == [] and images.images() == []


def test_removing_by_force(images: ImageStore) -> None:
    image_id = images.put(config())
    images.tag("a", image_id)
    images.tag("b", image_id)
    removed = images.remove(image_id[7:17], force=True)
    assert removed.untagged == ("docker.io/library/a:latest", "docker.io/library/b:latest")
    assert removed.deleted == (image_id,)
    with pytest.raises(NotFoundError):
        images.remove("a")


def test_blobs_that_others_need_stay(images: ImageStore, content: ContentStore) -> None:
    layer = content.write(b"a layer")
    blob = LayerBlob(media.OCI_LAYER_GZIP, layer, 7)
    ids = [images.put(config(w), manifest=assemble.manifest_bytes(config(w), [blob])) for w in ("a", "b")]
    for word, image_id in zip("ab", ids, strict=True):
        images.tag(word, image_id)
    images.remove("a")
    assert content.has(layer) and layer in images.referenced()
    images.remove("b")
    assert not content.has(layer) and images.referenced() == set()


def test_the_blobs_of_a_base_stay_while_an_image_stands_on_it(
    images: ImageStore, content: ContentStore
) -> None:
    data = config("built", layers=1)
    image_id = images.put(data)
    image = images.by_id(image_id)
    assert image is not None
    blob = LayerBlob(media.OCI_LAYER_GZIP, content.write(b"base"), 4)
    images.remember_blob(image.diff_ids[0], blob)
    assert blob.digest in images.referenced()


def test_a_damaged_config_counts_as_missing(images: ImageStore, content: ContentStore) -> None:
    image_id = images.put(config())
    images.tag("app", image_id)
    Path(content.path(image_id)).write_bytes(b"{}")
    assert images.lookup(reference.parse("app")) is None
    assert images.put(config()) == image_id
    assert images.lookup(reference.parse("app")) is not None


def test_ambiguous_beginning_of_an_id(images: ImageStore) -> None:
    ids: dict[str, Digest] = {}
    for number in range(40):
        image_id = images.put(config(str(number)))
        if image_id[7] in ids:
            with pytest.raises(UsageError, match="several image ids"):
                images.find(image_id[7])
            return
        ids[image_id[7]] = image_id
    raise AssertionError("17 ids without a common first digit")


def test_a_short_name_is_no_id(images: ImageStore) -> None:
    image_id = images.put(config())
    assert images.match(image_id[7:18], least=12) is None
    for text in (image_id[7:19], image_id[:19]):
        found = images.match(text, least=12)
        assert found is not None and found.id == image_id


def test_layer_blobs_and_origins(images: ImageStore) -> None:
    diff_id = DiffID(of_bytes(b"tar"))
    gzip = LayerBlob(media.OCI_LAYER_GZIP, of_bytes(b"gz"), 2)
    zstd = LayerBlob(media.OCI_LAYER_ZSTD, of_bytes(b"zst"), 3)
    images.remember_blob(diff_id, zstd)
    assert images.layer_blob(diff_id, (media.OCI_LAYER_GZIP, media.OCI_LAYER_ZSTD)) == zstd
    images.remember_blob(diff_id, gzip)
    assert images.layer_blob(diff_id, (media.OCI_LAYER_GZIP, media.OCI_LAYER_ZSTD)) == gzip
    assert images.layer_blob(diff_id, (media.OCI_LAYER,)) is None
    images.remember_origin(gzip.digest, "r", "a")
    images.remember_origin(gzip.digest, "r", "a")
    assert images.origins(gzip.digest) == [("r", "a")]
    images.forget_origin(gzip.digest, "r", "a")
    assert images.origins(gzip.digest) == []


def test_repo_digests(images: ImageStore, content: ContentStore) -> None:
    image_id = images.put(config())
    pushed = content.write(b"{}")
    images.remember_repo_digest("r.io/app", pushed, image_id)
    assert images.repo_digests(image_id) == [f"r.io/app@{pushed}"]
    image = images.by_id(image_id)
    assert image is not None and image.manifest is None, "a push does not change what an image is"


def test_an_index_that_was_pushed_and_pulled(images: ImageStore) -> None:
    image = images.by_id(images.put(config()))
    assert image is not None
    index = images.put_index([image])
    images.remember_repo_digest("r.io/app", index, image.id)
    images.tag("r.io/app:1", index, "index")
    assert {index, image.id} <= images.referenced()


def test_a_lookup_that_changes_nothing_writes_nothing(images: ImageStore, db: Database) -> None:
    images.tag("app", images.put(config()))
    before = db.one("SELECT total_changes()")
    images.lookup(reference.parse("app"), "linux/amd64")
    images.put(config())
    images.tag("app", images.put(config()))
    assert db.one("SELECT total_changes()") == before
