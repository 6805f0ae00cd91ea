"""What a build gives: the exporters' attributes, annotations, and the files that tell of the result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import trees
from tests.support.people import available
from tests.support.registry import Registry
from tests.support.runner import Pybuild

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
NEW = "FROM busybox\nRUN echo new > /new\n"
FILES = "FROM scratch\nARG TARGETARCH\nCOPY <<EOF /arch\n$TARGETARCH\nEOF\n"
BOTH = "linux/amd64,linux/arm64"


@pytest.fixture(scope="module")
def pybuild(kept: Callable[[str], Pybuild]) -> Pybuild:
    return kept(available()[-1])


@pytest.fixture
def context(pybuild: Pybuild) -> Path:
    return pybuild.context({"Dockerfile": FILES}, "outputs")


def layout(path: Path) -> tuple[dict[str, Any], Callable[[str], dict[str, Any]]]:
    """index.json of an archive or directory, and a reader of its documents."""

    def read(name: str) -> bytes:
        if path.is_dir():
            return (path / name).read_bytes()
        with tarfile.open(path) as tar:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

    return json.loads(read("index.json")), lambda digest: json.loads(read(f"blobs/sha256/{digest[7:]}"))


def test_annotations_of_one_platform(pybuild: Pybuild, context: Path) -> None:
    archive = pybuild.out / "annotated.tar"
    words = ("--annotation", "org.example.Title=a b=c", "--annotation", "manifest-descriptor:d=1")
    attribute = '"annotation.own=x,y",annotation-manifest-descriptor.e=2'
    pybuild("build", *words, "-t", "annotated:1", "-o", f"type=oci,dest={archive},{attribute}", context)
    index, read = layout(archive)
    (entry,) = index["manifests"]
    assert (entry["annotations"]["d"], entry["annotations"]["e"]) == ("1", "2")
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"
    manifest = read(entry["digest"])
    assert manifest["annotations"] == {"org.example.Title": "a b=c", "own": "x,y"}
    plain = pybuild.out / "plain.tar"
    pybuild("build", "-o", f"type=oci,dest={plain}", context)
    bare, read_bare = layout(plain)
    assert "annotations" not in bare["manifests"][0]
    assert read_bare(bare["manifests"][0]["digest"])["config"] == manifest["config"]


def test_annotations_of_several_platforms(pybuild: Pybuild, context: Path) -> None:
    archive = pybuild.out / "several.tar"
    words = [
        *("--annotation", "index,manifest:both=1"),
        *("--annotation", "manifest[linux/arm64]:arm=2"),
        *("--annotation", "manifest-descriptor[linux/amd64]:amd=3"),
        *("--annotation", "index-descriptor:top=4"),
        *("--build-arg", "SOURCE_DATE_EPOCH=1700000000"),
    ]
    pybuild("build", "--platform", BOTH, *words, "-o", f"type=oci,dest={archive}", context)
    top, read = layout(archive)
    created = {"org.opencontainers.image.created": "2023-11-14T22:13:20Z"}
    assert top["manifests"][0]["annotations"] == {"top": "4", **created}
    index = read(top["manifests"][0]["digest"])
    assert index["annotations"] == {"both": "1", **created}
    amd, arm = index["manifests"]
    assert amd["annotations"] == {"amd": "3"} and "annotations" not in arm
    assert read(amd["digest"])["annotations"] == {"both": "1"}
    assert read(arm["digest"])["annotations"] == {"both": "1", "arm": "2"}


def test_annotations_are_kept_until_the_image_is_pushed(
    pybuild: Pybuild, bases: Registry, context: Path
) -> None:
    name = f"{bases.address}/tests/annotated:1"
    pybuild("build", "-t", "kept:1", "--annotation", "a=b", context)
    pybuild("tag", "kept:1", name)
    pybuild("push", name)
    assert bases.manifest("tests/annotated", "1")["annotations"] == {"a": "b"}
    archive = pybuild.out / "saved.tar"
    pybuild("save", "--format", "oci", "-o", archive, "kept:1")
    index, read = layout(archive)
    assert read(index["manifests"][0]["digest"])["annotations"] == {"a": "b"}
    # Built again without, the name means an image without.
    pybuild("build", "-t", name, context)
    pybuild("push", name)
    assert "annotations" not in bases.manifest("tests/annotated", "1")
    pybuild("build", "--push", "-t", name, "--annotation", "manifest:c=d", context)
    assert bases.manifest("tests/annotated", "1")["annotations"] == {"c": "d"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--annotation", "index:a=b"), "an image of one platform has no index"),
        (("--annotation", "layer:a=b"), "no annotations of a 'layer'"),
        (("--annotation", "a=b", "-o", "out"), "no output is one"),
        (("-o", "type=oci,dest=x,frobnicate=1"), "has no field 'frobnicate'"),
        (("-o", "type=oci,dest=x,compression=estargz"), "compression=estargz is not supported"),
        (("-o", "type=image,push-by-digest=true,name=h:1/a:tag"), "has a tag"),
        (("--push",), "an image without a name cannot be pushed"),
        (("--timestamp", "1700000000000"), "out of range"),
        (("-o", "type=docker,dest=x", "--platform", BOTH), "holds one platform"),
        (("--allow", "network.hose"), "no entitlement 'network.hose'"),
        (("--secret", "id=s,src=/nowhere"), "there is no file /nowhere"),
        (("--ulimit", "files=1"), "no limit named 'files'"),
    ],
)
def test_what_no_exporter_can_do(
    pybuild: Pybuild, context: Path, words: tuple[str, ...], message: str
) -> None:
    told = pybuild("build", *words, context, status=2)
    assert message in told.stderr
    assert "exporting" not in told.stderr  # before anything is built


def test_an_image_that_is_pushed_alone(pybuild: Pybuild, bases: Registry, context: Path) -> None:
    name = f"{bases.address}/tests/alone:1"
    pybuild(
        "build", "-o", f"type=registry,name={name},store=false,unpack=false,registry.insecure=True", context
    )
    assert bases.manifest("tests/alone", "1")["mediaType"] == f"{OCI}.manifest.v1+json"
    assert "alone" not in pybuild("images").stdout


def test_push_by_digest(pybuild: Pybuild, bases: Registry, context: Path) -> None:
    metadata = pybuild.out / "digest.json"
    name = f"{bases.address}/tests/by-digest"
    words = ("-o", f"type=image,name={name},push-by-digest=true,push=true", "--metadata-file", metadata)
    for platforms, kind in (("linux/amd64", "manifest"), (BOTH, "index")):
        pybuild("build", "--platform", platforms, *words, context)
        told = json.loads(metadata.read_text())
        assert told["image.name"] == name
        document = bases.manifest("tests/by-digest", told["containerimage.digest"])
        assert document["mediaType"] == f"{OCI}.{kind}.v1+json"
    with pytest.raises(urllib.error.HTTPError) as raised:
        bases.get("/v2/tests/by-digest/tags/list")
    raised.value.close()
    assert raised.value.code == 404
    assert "by-digest" not in pybuild("images").stdout


def test_all_tags_of_a_repository(pybuild: Pybuild, bases: Registry) -> None:
    context = pybuild.context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}, "all-tags")
    name = f"{bases.address}/tests/all-tags"
    tags = [f"{name}:{tag}" for tag in ("1", "2", "latest")]
    pybuild("build", *(word for tag in tags for word in ("-t", tag)), context)
    assert pybuild("push", "-q", "-a", name).stdout.split() == tags
    archive = pybuild.out / "all.tar"
    pybuild("save", "-o", archive, name, tags[0])
    index, _ = layout(archive)
    saved = [m["annotations"]["org.opencontainers.image.ref.name"] for m in index["manifests"]]
    assert saved == ["1", "2", "latest"]
    with tarfile.open(archive) as tar:
        (entry,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert entry["RepoTags"] == tags
    pybuild("rmi", *tags)
    assert pybuild("pull", "-q", "--all-tags", name).stdout.split() == tags
    assert sorted(pybuild("images", "--format", "{{.Tag}}", name).stdout.split()) == saved
    assert "names one image" in pybuild("push", "-a", tags[0], status=2).stderr
    assert "no image here has a tag of nothing" in pybuild("push", "-a", "nothing", status=1).stderr


def test_docker_media_types(pybuild: Pybuild, bases: Registry, context: Path) -> None:
    name = f"{bases.address}/tests/docker-types"
    for compression, suffix in (("gzip", ".gzip"), ("zstd", ".zstd"), ("uncompressed", "")):
        given = f"type=registry,name={name}:{compression},oci-mediatypes=false,compression={compression}"
        pybuild("build", "-o", given, context)
        document: Any = bases.manifest("tests/docker-types", compression)
        assert document["mediaType"] == f"{DOCKER}.distribution.manifest.v2+json"
        assert document["config"]["mediaType"] == f"{DOCKER}.container.image.v1+json"
        assert [d["mediaType"] for d in document["layers"]] == [f"{DOCKER}.image.rootfs.diff.tar{suffix}"]
        assert trees.read_registry(bases.get, "tests/docker-types", compression).tree["/arch"].size == 6
    pybuild("build", "--platform", BOTH, "-o", f"type=registry,name={name}:2,oci-mediatypes=false", context)
    document = bases.manifest("tests/docker-types", "2")
    assert document["mediaType"] == f"{DOCKER}.distribution.manifest.list.v2+json"
    assert {d["mediaType"] for d in document["manifests"]} == {f"{DOCKER}.distribution.manifest.v2+json"}


def test_layers_are_compressed_again_where_it_is_asked_for(pybuild: Pybuild, bases: Registry) -> None:
    place = pybuild.context({"Dockerfile": NEW}, "again")
    archive = pybuild.out / "again.tar"
    given = f"type=oci,dest={archive},compression=zstd"
    found = {}
    for more in ("", ",force-compression=true", ",force-compression=true,compression-level=19"):
        pybuild("build", "-o", given + more, place)
        image = trees.read_archive(archive)
        assert {"/new", "/bin/busybox"} <= set(image.tree)
        found[more] = image.manifest["layers"]
    kinds = {more: [d["mediaType"].rpartition("+")[2] for d in layers] for more, layers in found.items()}
    assert kinds[""] == ["gzip", "zstd"]
    assert kinds[",force-compression=true"] == ["zstd", "zstd"]
    name = f"{bases.address}/tests/again:1"
    pybuild("build", "-o", f"type=registry,name={name},compression=zstd,force-compression", place)
    pushed: Any = bases.manifest("tests/again", "1")
    assert [d["mediaType"].rpartition("+")[2] for d in pushed["layers"]] == ["zstd", "zstd"]


def test_compression_level(pybuild: Pybuild) -> None:
    text = "FROM scratch\nCOPY f /\n"
    sources = "".join(file.read_text() for file in sorted(Path(__file__).parent.rglob("*.py")))
    place = pybuild.context({"Dockerfile": text, "f": sources}, "level")
    sizes = []
    for level in (1, 9):
        # A layer keeps the blob that it was first made into, so each level gets its own content.
        (place / "f").write_text((place / "f").read_text() + str(level))
        archive = pybuild.out / "level.tar"
        pybuild("build", "-o", f"type=oci,dest={archive},compression=gzip,compression-level={level}", place)
        sizes.append(trees.read_archive(archive).manifest["layers"][0]["size"])
    assert sizes[1] < sizes[0] * 0.95
    told = pybuild("build", "-o", "type=oci,dest=x,compression=gzip,compression-level=12", place, status=2)
    assert "gzip has no compression level 12" in told.stderr


@pytest.mark.needs("skopeo")
def test_a_layout_as_directory(pybuild: Pybuild, context: Path) -> None:
    folder = pybuild.out / "layout"
    for tag in ("1", "2", "1"):
        pybuild("build", "-t", f"a:{tag}", "-o", f"type=oci,tar=false,dest={folder}", context)
    names = [m["annotations"]["org.opencontainers.image.ref.name"] for m in layout(folder)[0]["manifests"]]
    assert sorted(names) == ["1", "2"]
    assert sorted(os.listdir(folder)) == ["blobs", "index.json", "oci-layout"]
    config = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci:{folder}:2"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert json.loads(config)["os"] == "linux"
    onto = pybuild.context({"Dockerfile": "FROM base\nCOPY Dockerfile /\n"}, "onto")
    words = ("--build-context", f"base=oci-layout://{folder}:2", "-o", pybuild.out / "onto")
    pybuild("build", *words, onto)
    assert sorted(os.listdir(pybuild.out / "onto")) == ["Dockerfile", "arch"]
    (folder / "index.json").write_text("[]")
    told = pybuild("build", "-o", f"type=oci,tar=false,dest={folder}", context, status=2)
    assert "is no index of an image layout" in told.stderr


def test_platform_split(pybuild: Pybuild, context: Path) -> None:
    one, flat = pybuild.out / "one", pybuild.out / "flat"
    pybuild("build", "-o", f"type=local,dest={one},platform-split=true", context)
    assert os.listdir(one) == [f"linux_{'amd64' if os.uname().machine == 'x86_64' else 'arm64'}"]
    pybuild("build", "--platform", BOTH, "-o", f"type=local,dest={flat},platform-split=false", context)
    assert (flat / "arch").read_text() == "arm64\n"
    tar = pybuild.out / "split.tar"
    pybuild("build", "-o", f"type=tar,dest={tar},platform-split=true", context)
    with tarfile.open(tar) as archive:
        assert archive.getnames()[0].startswith("linux_")


def test_an_index_of_one_platform(pybuild: Pybuild, bases: Registry, context: Path) -> None:
    name = f"{bases.address}/tests/index-of-one:1"
    forced = ("--build-arg", "BUILDKIT_MULTI_PLATFORM=1")
    words = ("--push", "-t", name, "--annotation", "index:a=b")
    pybuild("build", *forced, *words, context)
    index: Any = bases.manifest("tests/index-of-one", "1")
    assert index["mediaType"] == f"{OCI}.index.v1+json" and index["annotations"] == {"a": "b"}
    assert len(index["manifests"]) == 1
    pybuild("build", *forced, "-t", name, context)
    pybuild("push", name)
    index = bases.manifest("tests/index-of-one", "1")
    assert len(index["manifests"]) == 1 and "annotations" not in index
    folder = pybuild.out / "forced"
    pybuild("build", *forced, "-o", folder, context)
    assert [name[:6] for name in os.listdir(folder)] == ["linux_"]


def test_files_that_tell_of_the_result(pybuild: Pybuild, bases: Registry, context: Path) -> None:
    iid, metadata = pybuild.out / "iid", pybuild.out / "metadata.json"
    name = f"{bases.address}/tests/told:1"
    words = ("--iidfile", iid, "--metadata-file", metadata)
    quiet = pybuild("build", "-q", "--load", "-t", name, *words, context).stdout
    shown = pybuild("images", "-q", "--no-trunc", name).stdout
    assert iid.read_text() == quiet.strip() == shown.strip()
    told = json.loads(metadata.read_text())
    assert name.rpartition("/")[2] in pybuild("history", "inspect", told.pop("buildx.build.ref")).stdout
    assert told == {"containerimage.config.digest": iid.read_text(), "image.name": name}
    pybuild("build", "--push", "-t", name, *words, context)
    told = json.loads(metadata.read_text())
    digest = told["containerimage.digest"]
    assert bases.manifest("tests/told", digest) == bases.manifest("tests/told", "1")
    size = len(bases.get(f"/v2/tests/told/manifests/{digest}"))
    expected = {"mediaType": f"{OCI}.manifest.v1+json", "digest": digest, "size": size}
    assert told["containerimage.descriptor"] == expected
    assert told["containerimage.config.digest"] == iid.read_text()
    pybuild(
        "build", "-t", "x:1", "-o", f"type=docker,name=loaded:1,dest={pybuild.out}/l.tar", *words, context
    )
    with tarfile.open(pybuild.out / "l.tar") as archive:
        (entry,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert entry["RepoTags"] == ["loaded:1"]
    pybuild("build", *words, "--check", context)
    assert iid.read_text().startswith("sha256:")
    # An id of before is not left where a build fails.
    pybuild("build", "--iidfile", iid, "--target", "none", context, status=1)
    assert not iid.exists()
    told = pybuild("build", "--iidfile", "/nowhere/x", context, status=2).stderr
    assert "--iidfile: can't write /nowhere/x" in told


def test_what_the_store_shares_is_no_hard_link(pybuild: Pybuild) -> None:
    text = (
        "FROM busybox AS a\nRUN echo 1 > /f && ln /f /g\n"
        "FROM a AS b\nCOPY --from=a /f /x\nCOPY --from=a /f /y\n"
        "FROM scratch\nCOPY --from=b /f /g /x /y /d/\n"
    )
    place = pybuild.context({"Dockerfile": text}, "shared")
    tar, folder = pybuild.out / "shared.tar", pybuild.out / "shared"
    pybuild("build", "-o", f"type=tar,dest={tar}", "-o", folder, place)
    with tarfile.open(tar) as archive:
        found = {m.name: m.linkname for m in archive if not m.isdir()}
    assert found == {"d/f": "", "d/g": "d/f", "d/x": "", "d/y": ""}
    assert {p.name: p.stat().st_nlink for p in (folder / "d").iterdir()} == {"f": 2, "g": 2, "x": 1, "y": 1}


def statements(document: dict[str, Any], read: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of an attestation manifest, whose layers say what each is."""
    found = []
    for layer in document["layers"]:
        assert layer["mediaType"] == "application/vnd.in-toto+json"
        found.append(read(layer["digest"]))
        assert layer["annotations"] == {"in-toto.io/predicate-type": found[-1]["predicateType"]}
    assert read(document["config"]["digest"])["rootfs"]["diff_ids"] == [
        d["digest"] for d in document["layers"]
    ]
    return found


def test_options_of_buildah_and_of_old(pybuild: Pybuild) -> None:
    text = "FROM busybox\nARG A\nARG B\nENV A=$A B=$B C=c\nLABEL k=1 l=2\nRUN echo > /new\n"
    here = pybuild.context({"Dockerfile": text, "args": "# both\nA=file\nB=file\n"}, "buildah")
    words = (
        "--build-arg-file",
        here / "args",
        "--build-arg",
        "B=own",
        "--rm",
        "--force-rm=false",
        "--compress",
    )
    unset = ("--unsetenv", "C", "--unsetenv", "NONE", "--unsetlabel", "k", "--timestamp", "1000000000")
    pybuild("build", *words, *unset, "-t", "edited:1", here)
    shown = "{{json .Config.Env}} {{json .Config.Labels}} {{.Created}}"
    env, labels, created = pybuild("inspect", "-f", shown, "edited:1").stdout.split()
    assert json.loads(env)[1:] == ["A=file", "B=own"]
    assert (json.loads(labels), created) == ({"l": "2"}, "2001-09-09T01:46:40Z")
    archive = pybuild.out / "dated.tar"
    pybuild("build", *words, *unset, "-o", f"type=tar,dest={archive}", here)
    with tarfile.open(archive) as tar:
        assert tar.getmember("new").mtime == 1000000000
    pybuild("build", "-q", "-D", "--builder", "default", "--isolation=default", here)
    assert "'mine' is not 'default'" in pybuild("build", "--builder=mine", here, status=2).stderr
    both = ("--timestamp", "1", "--build-arg", "SOURCE_DATE_EPOCH=2")
    assert "which is given, too" in pybuild("build", *both, here, status=2).stderr
    assert "not a number" in pybuild("build", "--timestamp", "today", here, status=2).stderr


def test_an_export_that_is_interrupted(pybuild: Pybuild, context: Path) -> None:
    pipe = pybuild.out / "pipe"
    os.mkfifo(pipe)
    pybuild.person.own(pipe)
    words = ("--progress=plain", "-o", f"type=oci,dest={pipe}", context)
    with pybuild.start("build", *words) as process:
        assert process.stderr is not None
        assert any("exporting layers done" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)  # Nobody reads the pipe.
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert " CANCELED\n" in rest and "ERROR" not in rest
    assert not list(pybuild.store.glob("staging/*"))


def test_squash(pybuild: Pybuild) -> None:
    text = (
        "FROM busybox AS base\n"
        "RUN mkdir /old /mixed && for f in /old/a /mixed/gone /kept; do echo > $f; done\n"
        "FROM base\nRUN echo big > /tmp/big && ln /tmp/big /hard\n"
        "RUN rm -r /tmp/big /old /mixed/gone /bin/vi\n"
        "ENV A=b\nRUN mkdir /old && chmod 700 /old && echo 2 > /old/b && ln -s b /old/l && chown 5:6 /kept\n"
    )
    here = pybuild.context({"Dockerfile": text}, "squash")
    for words in ((), ("--squash",)):
        name = "-".join(("whole", *words)) + ":1"
        pybuild("build", *words, "-t", name, "-o", f"type=oci,dest={pybuild.out}/{name}.tar", here)
    archives = [pybuild.out / f"whole{suffix}:1.tar" for suffix in ("", "---squash")]
    whole, one = (trees.read_archive(archive) for archive in archives)
    assert one.tree == whole.tree
    base = 1  # busybox
    assert (len(one.config["rootfs"]["diff_ids"]), len(whole.config["rootfs"]["diff_ids"])) == (
        base + 1,
        base + 4,
    )
    assert one.config["config"] == whole.config["config"]
    history = [entry.get("empty_layer", False) for entry in one.config["history"]]
    assert history.count(False) == base + 1 and not history[-1]
    assert one.config["rootfs"]["diff_ids"][:base] == whole.config["rootfs"]["diff_ids"][:base]
    again = pybuild("build", "--squash", "-t", "squashed:1", here)
    assert "CACHED" in again.stderr and pybuild("run", "--rm", "squashed:1", "ls", "/old").stdout == "b\nl\n"
    assert pybuild("inspect", "-f", "{{len .RootFS.Layers}}", "squashed:1").stdout == f"{base + 1}\n"
    told = pybuild("build", "--squash", "--cache-to", "type=inline", here, status=2).stderr
    assert "no inline cache" in told


def test_a_secret_from_a_variable_that_is_not_set(pybuild: Pybuild) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /size\n"
    here = pybuild.context({"Dockerfile": text}, "unset")
    pybuild("build", "--secret", "id=s,env=NOT_SET", "-o", pybuild.out / "unset", here)
    assert (pybuild.out / "unset/size").read_text() == "0\n"


def test_attestations_of_a_layout(pybuild: Pybuild, bases: Registry) -> None:
    here = pybuild.context(
        {"Dockerfile": f"FROM busybox\nARG API_TOKEN\nARG V\n{NEW[13:]}COPY status /var/lib/dpkg/\n",
         "status": "Package: tool\nVersion: 1.5\n"},
        "attested",
    )  # fmt: skip
    archive, metadata = pybuild.out / "attested.tar", pybuild.out / "attested.json"
    words: list[str | Path] = [
        "--build-arg",
        "V=2",
        "--build-arg",
        "API_TOKEN=geheim",
        "--metadata-file",
        metadata,
    ]
    words += ["--provenance", "mode=max", "--sbom=true", "-t", "attested:1"]
    pybuild("build", *words, "-o", f"type=oci,dest={archive}", here)
    top, read = layout(archive)
    image, attached = read(top["manifests"][0]["digest"])["manifests"]
    assert attached["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert attached["annotations"] == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    }
    provenance, packages = statements(read(attached["digest"]), read)
    for statement in (provenance, packages):
        (subject,) = statement["subject"]
        assert subject["digest"] == {"sha256": image["digest"][7:]}
        assert subject["name"] == "pkg:docker/attested@1?platform=linux%2Famd64"
    predicate = provenance["predicate"]
    assert predicate["materials"][0]["uri"].startswith("pkg:docker/busybox@latest?platform=")
    assert predicate["invocation"]["configSource"] == {"entryPoint": "Dockerfile"}
    args = predicate["invocation"]["parameters"]["args"]
    assert args["build-arg:V"] == "2" and "geheim" not in json.dumps(provenance)
    assert json.loads(metadata.read_text())["buildx.build.provenance"] == predicate
    assert predicate["metadata"]["buildInvocationID"] in pybuild("history", "ls").stdout
    (package,) = packages["predicate"]["packages"]
    assert (package["name"], package["versionInfo"]) == ("tool", "1.5")
    # The image is the same one as without, and is known to others.
    pybuild("build", *words[:6], "-o", f"type=oci,dest={pybuild.out}/bare.tar", here)
    bare, _ = layout(pybuild.out / "bare.tar")
    assert bare["manifests"][0]["digest"] == image["digest"]
    pybuild("rmi", "-f", "attested:1")
    assert pybuild("load", "-i", archive).stdout == "Loaded image: attested:1\n"


def test_attestations_in_a_registry(pybuild: Pybuild, bases: Registry, context: Path) -> None:
    name = f"{bases.address}/tests/attested:1"
    pybuild(
        "build", "--attest", "type=provenance,version=v1", "--platform", BOTH, "-t", name, "--push", context
    )
    index: Any = bases.manifest("tests/attested", "1")
    kinds = [m["platform"]["architecture"] for m in index["manifests"]]
    assert kinds == ["amd64", "arm64", "unknown", "unknown"]
    for image, attached in zip(index["manifests"][:2], index["manifests"][2:], strict=True):
        assert attached["annotations"]["vnd.docker.reference.digest"] == image["digest"]
        document: Any = bases.manifest("tests/attested", attached["digest"])
        blobs = lambda digest: json.loads(bases.get(f"/v2/tests/attested/blobs/{digest}"))  # noqa: E731
        (provenance,) = statements(document, blobs)
        assert provenance["predicateType"] == "https://slsa.dev/provenance/v1"
        assert "buildConfig" not in provenance["predicate"]["buildDefinition"]["internalParameters"]
    artifact = f"type=registry,name={name},oci-artifact=true"
    pybuild("build", "--provenance=true", "-o", artifact, context)
    index = bases.manifest("tests/attested", "1")
    image, attached = index["manifests"]
    document = bases.manifest("tests/attested", attached["digest"])
    assert document["artifactType"] == "application/vnd.docker.attestation.manifest.v1+json"
    assert document["subject"] == {key: image[key] for key in ("mediaType", "digest", "size")}
    assert document["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert bases.get(f"/v2/tests/attested/blobs/{document['config']['digest']}") == b"{}"
    pybuild("rmi", "-f", name)
    pybuild("pull", name)


def test_attestations_beside_files(pybuild: Pybuild, context: Path) -> None:
    folder, archive = pybuild.out / "stated", pybuild.out / "stated-files.tar"
    words = ("--sbom=1", "--provenance=true", "-o", folder, "-o", f"type=tar,dest={archive}")
    pybuild("build", *words, "-o", "type=image", context)
    assert sorted(os.listdir(folder)) == ["arch", "provenance.json", "sbom.spdx.json"]
    stated = json.loads((folder / "provenance.json").read_text())
    assert [subject["name"] for subject in stated["subject"]] == ["arch"]
    with tarfile.open(archive) as tar:
        assert json.load(tar.extractfile("provenance.json")) == stated  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--provenance=true",), "nothing does"),
        (("--sbom=true", "--load"), "nothing does"),
        (("--sbom=true", "-o", "type=docker,dest=x"), "holds no attestations"),
        (("--provenance=mode=full", "--push"), "mode is min or max"),
        (("--sbom=generator=x/y", "--push"), "packages are not listed by an image"),
        (("--attest=type=sbom", "--sbom=true", "--push"), "given twice"),
        (("--attest=type=vex", "--push"), "no type 'vex'"),
        (("--attest=mode=max", "--push"), "no type ''"),
    ],
)
def test_attestations_that_cannot_be(
    pybuild: Pybuild, context: Path, words: tuple[str, ...], message: str
) -> None:
    told = pybuild("build", *words, context, status=2).stderr
    assert message in told and "exporting" not in told
    pybuild("build", "--provenance=false", "--attest", "type=sbom,disabled=true", context)
