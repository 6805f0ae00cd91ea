from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.content.store import ContentStore
from buildkit_py.database import Database
from buildkit_py.digest import DiffID, of_bytes
from buildkit_py.errors import ImageError, UsageError
from buildkit_py.image import archive, assemble
from buildkit_py.image.archive import TarArchive
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.store import ImageStore
from buildkit_py.oci import documents, media
from buildkit_py.source.load import Loaded, import_rootfs, load

EMPTY_TAR = bytes(1024)
DIFF = DiffID(of_bytes(EMPTY_TAR))
CONFIG = assemble.config_bytes({"os": "linux", "architecture": "amd64", "config": {}}, [DIFF])
ID = of_bytes(CONFIG)


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path / "store"))


@pytest.fixture
def images(tmp_path: Path, content: ContentStore) -> Iterator[ImageStore]:
    (tmp_path / "store").mkdir()
    db = Database(str(tmp_path / "store" / "index.db"))
    yield ImageStore(db, content)
    db.close()


def tar(files: dict[str, bytes | str]) -> io.BytesIO:
    """A tar of files; a string value is the target of a symbolic link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                archive.addfile(member)
            else:
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    out.seek(0)
    return out


def blob(data: bytes) -> str:
    return f"blobs/sha256/{of_bytes(data)[7:]}"


def oci(name: str = "", **annotations: str) -> dict[str, bytes | str]:
    layer = LayerBlob(media.OCI_LAYER, of_bytes(EMPTY_TAR), len(EMPTY_TAR))
    manifest = assemble.manifest_bytes(CONFIG, [layer])
    entry = assemble.descriptor(media.OCI_MANIFEST, of_bytes(manifest), len(manifest))
    if name:
        annotations["io.containerd.image.name"] = name
    if annotations:
        entry["annotations"] = annotations
    documents = {blob(d): d for d in (EMPTY_TAR, CONFIG, manifest)}
    return {"oci-layout": b"{}", "index.json": assemble.index_bytes([entry]), **documents}


def docker(tags: list[str] | None = None, **changes: Any) -> dict[str, bytes | str]:
    entry = {"Config": "c.json", "RepoTags": tags, "Layers": ["1/layer.tar"], **changes}
    listing = json.dumps([entry]).encode()
    return {"1/layer.tar": EMPTY_TAR, "c.json": CONFIG, "manifest.json": listing}


def loaded(content: ContentStore, images: ImageStore, files: dict[str, bytes | str]) -> list[Loaded]:
    return load(content, images, TarArchive(content, tar(files)))


def test_an_oci_layout(content: ContentStore, images: ImageStore) -> None:
    found = loaded(content, images, oci("docker.io/library/app:1"))
    assert found == [Loaded(ID, ("docker.io/library/app:1",))]
    image = images.find("app:1")
    assert image.id == ID and image.manifest is not None
    assert set(content.digests()) == images.referenced(), "index.json and oci-layout are not kept"


def test_the_order_of_a_tar_does_not_matter(content: ContentStore, images: ImageStore) -> None:
    backwards = dict(reversed(list(oci("app:1").items())))
    assert loaded(content, images, backwards)[0].id == ID


def test_a_bare_tag_is_no_name(content: ContentStore, images: ImageStore) -> None:
    assert loaded(content, images, oci(**{"org.opencontainers.image.ref.name": "latest"})) == [Loaded(ID, ())]


def test_a_whole_name_is_one(content: ContentStore, images: ImageStore) -> None:
    files = oci(**{"org.opencontainers.image.ref.name": "r.io/app:2"})
    assert loaded(content, images, files) == [Loaded(ID, ("r.io/app:2",))]


def test_names_that_are_none_are_left_out(content: ContentStore, images: ImageStore) -> None:
    assert loaded(content, images, oci("Not A Name")) == [Loaded(ID, ())]


def test_docker_save(content: ContentStore, images: ImageStore) -> None:
    found = loaded(content, images, docker(["app:1", "r.io/app:2"]))
    assert found == [Loaded(ID, ("docker.io/library/app:1", "r.io/app:2"))]
    known = images.layer_blob(DIFF, (media.OCI_LAYER_GZIP,))
    assert known is not None and content.has(known.digest), "kept compressed"
    assert set(content.digests()) == {ID, known.digest}


def test_docker_save_with_links_between_layers(content: ContentStore, images: ImageStore) -> None:
    files = docker(["app:1"])
    files = {"2/layer.tar": files.pop("1/layer.tar"), "1/layer.tar": "../2/layer.tar", **files}
    assert loaded(content, images, files)[0].id == ID


def test_a_link_out_of_the_archive_leads_nowhere(content: ContentStore, images: ImageStore) -> None:
    for target in ("/etc/passwd", "../../../../etc/passwd", "1/layer.tar", "../1/layer.tar"):
        with pytest.raises(ImageError, match="lacks the layer"):
            loaded(content, images, {**docker(), "1/layer.tar": target})
    assert list(content.digests()) == []


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "neither"),
        ({"x": b"y"}, "neither"),
        ({"index.json": b"{"}, "invalid"),
        ({"manifest.json": b"{}"}, "invalid"),
        ({"manifest.json": b'[{"Config": 1}]'}, "invalid"),
        ({**oci(), "index.json": assemble.index_bytes([])}, "no image"),
        ({k: v for k, v in oci().items() if v != CONFIG}, "lacks the blob"),
        ({k: v for k, v in oci().items() if v != EMPTY_TAR}, "lacks the blob"),
        ({**oci(), blob(CONFIG): b"{}"}, "damaged"),
        ({**docker(), "c.json": b"{}"}, "invalid"),
        ({**docker(Config="../../etc/passwd")}, "lacks the config"),
        ({**docker(Layers=[])}, "0 layers"),
        ({**docker(Layers=["nowhere"])}, "lacks the layer"),
        ({**docker(), "1/layer.tar": b"x" * 1024}, "unpacks to"),
        ({"index.json": b" " * (5 << 20)}, "limit"),
    ],
)
def test_what_is_refused_leaves_nothing(
    content: ContentStore, images: ImageStore, files: dict[str, bytes | str], why: str
) -> None:
    with pytest.raises(ImageError, match=why):
        loaded(content, images, files)
    assert images.images() == []
    left = {content.size(digest) for digest in content.digests()}
    assert len(left) <= 1, "at most a layer that was compressed already, which prune finds"


@pytest.mark.parametrize("data", [b"", b"x" * 5000, b"\x1f\x8b" + b"x" * 100])
def test_what_is_no_archive(content: ContentStore, data: bytes) -> None:
    with pytest.raises(ImageError):
        TarArchive(content, io.BytesIO(data))
    assert list(content.digests()) == []


def test_an_archive_that_promises_zeros(content: ContentStore, tmp_path: Path) -> None:
    """10 KiB that would take 1 GiB of the store."""
    with (tmp_path / "blob").open("wb") as file:
        file.truncate(1 << 30)
    path = tmp_path / "x.tar"
    subprocess.run(["tar", "-C", tmp_path, "-cSf", path, "blob"], check=True)
    assert path.stat().st_size < 20000
    with pytest.raises(ImageError, match="blob as a sparse file"), path.open("rb") as opened:
        TarArchive(content, opened)
    with pytest.raises(ImageError, match="blob as a sparse file"):
        archive.in_place(content, str(path))
    assert list(content.digests()) == []


def test_a_directory(content: ContentStore, images: ImageStore, tmp_path: Path) -> None:
    for name, data in oci("app:1").items():
        file = tmp_path / "layout" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(data, bytes)
        file.write_bytes(data)
    assert load(content, images, archive.opened(content, str(tmp_path / "layout")))[0].id == ID


def test_a_directory_with_links_out_of_it(content: ContentStore, images: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(EMPTY_TAR)
    layout = tmp_path / "layout"
    for name, data in oci("app:1").items():
        file = layout / name
        file.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(data, bytes)
        file.write_bytes(data)
    (layout / blob(EMPTY_TAR)).unlink()
    (layout / blob(EMPTY_TAR)).symlink_to(tmp_path / "secret")
    with pytest.raises(ImageError, match="lacks the blob"):
        load(content, images, archive.opened(content, str(layout)))


def test_a_missing_file(content: ContentStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        archive.opened(content, str(tmp_path / "none.tar"))


def test_several_platforms(content: ContentStore, images: ImageStore) -> None:
    files = oci()
    inner: documents.DescriptorDict
    (inner,) = json.loads(files["index.json"])["manifests"]
    entries: list[documents.DescriptorDict] = [
        {**inner, "platform": {"os": "linux", "architecture": "amd64"}},
        {**inner, "digest": of_bytes(b"absent"), "platform": {"os": "linux", "architecture": "arm64"}},
        {**inner, "digest": of_bytes(b"attest"), "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    nested = assemble.index_bytes(entries)
    top = assemble.descriptor(media.OCI_INDEX, of_bytes(nested), len(nested))
    top["annotations"] = {"io.containerd.image.name": "app:1"}
    files.update({"index.json": assemble.index_bytes([top]), blob(nested): nested})
    assert loaded(content, images, files) == [Loaded(ID, ("docker.io/library/app:1",))]
    assert images.find("app:1", "linux/amd64").id == ID


def test_import(content: ContentStore, images: ImageStore) -> None:
    rootfs = tar({"bin/sh": b"#!", "etc/passwd": b"root:x:0:0::/:/bin/sh\n"})
    made = import_rootfs(
        content, images, rootfs, name="root:1", config={"Cmd": ["sh"]}, message="mine", wanted="linux/arm64"
    )
    image = images.find("root:1")
    assert image.id == made.id and image.platform == "linux/arm64"
    assert image.config["config"] == {"Cmd": ["sh"]} and image.config["history"][0]["comment"] == "mine"
    again = import_rootfs(
        content,
        images,
        tar({"bin/sh": b"#!", "etc/passwd": b"root:x:0:0::/:/bin/sh\n"}),
        config={"Cmd": ["sh"]},
    )
    assert again.names == ()
    with pytest.raises(ImageError, match="no tar"):
        import_rootfs(content, images, io.BytesIO(b"not a tar" * 1000))


def written(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_an_archive_is_read_where_it_lies(tmp_path: Path, content: ContentStore) -> None:
    data = bytes(range(256)) * 1000
    right, wrong = (f"blobs/sha256/{of_bytes(d)[7:]}" for d in (data, b"other"))
    files = {"index.json": b"{}", right: data, wrong: b"OTHER", "last": b"1"}
    place = written(tmp_path / "a.tar", files)
    opened = archive.in_place(content, str(place))
    assert opened is not None
    assert list(content.digests()) == []
    blob = opened.blob(of_bytes(data), len(data))
    assert blob is not None
    with blob:
        assert b"".join(iter(lambda: blob.read(1000), b"")) == data
    assert list(content.digests()) == []
    assert archive.document(opened, content, "./index.json") == b"{}"
    assert list(content.digests()) == [of_bytes(b"{}")]
    assert opened.blob(of_bytes(data), 1) is None and opened.blob(of_bytes(b"none"), 4) is None
    damaged = opened.blob(of_bytes(b"other"), 5)
    assert damaged is not None
    with damaged:
        assert damaged.read() == b"OTHER"
        with pytest.raises(ImageError, match="is damaged"):
            damaged.read()
    opened.keep(set())
    assert list(content.digests()) == []
    opened.close()
    assert archive.in_place(content, str(tmp_path)) is None
    (tmp_path / "text").write_text("hello")
    assert archive.in_place(content, str(tmp_path / "text")) is None
    place.write_bytes(place.read_bytes()[:100_000])
    with pytest.raises(ImageError, match="ends in the middle of a file"):
        archive.in_place(content, str(place))
