"""Builds for several platforms, pushed and in archives. Nothing of another platform is run."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import trees
from tests.support.people import available
from tests.support.registry import Registry
from tests.support.runner import Pybuild

DOCKERFILE = """\
FROM --platform=$BUILDPLATFORM busybox AS build
ARG TARGETPLATFORM
RUN echo $TARGETPLATFORM > /platform
FROM scratch
COPY --from=build /platform /
"""
PLATFORMS = "linux/amd64,linux/arm/v7"


@pytest.fixture
def pybuild(kept: Callable[[str], Pybuild]) -> Pybuild:
    return kept(available()[0])


def test_several_platforms_are_pushed_as_an_index(pybuild: Pybuild, bases: Registry) -> None:
    place = pybuild.context({"Dockerfile": DOCKERFILE}, "platforms")
    name = f"{bases.address}/tests/platforms:1"
    metadata = pybuild.out / "metadata.json"
    pybuild("build", "--platform", PLATFORMS, "--push", "-t", name, "--metadata-file", metadata, place)
    index = json.loads(bases.get("/v2/tests/platforms/manifests/1"))
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    told = [entry["platform"] for entry in index["manifests"]]
    assert told == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm", "variant": "v7"},
    ]
    digest = json.loads(metadata.read_text())["containerimage.digest"]
    assert json.loads(bases.get(f"/v2/tests/platforms/manifests/{digest}")) == index
    found = [
        trees.read_registry(bases.get, "tests/platforms", entry["digest"]).tree["/platform"].size
        for entry in index["manifests"]
    ]
    assert found == [len("linux/amd64\n"), len("linux/arm/v7\n")]


def test_a_name_in_the_store_means_all_platforms(pybuild: Pybuild, bases: Registry) -> None:
    place = pybuild.context({"Dockerfile": DOCKERFILE}, "platforms")
    pybuild("build", "--platform", PLATFORMS, "-t", "several:1", place)
    shown = pybuild("images", "--format", "{{.Platform}} {{.ID}}", "several:1").stdout.split()
    assert sorted(shown[::2]) == ["linux/amd64", "linux/arm/v7"] and shown[1] != shown[3]

    name = f"{bases.address}/tests/several:1"
    pybuild("tag", "several:1", name)
    pybuild("push", name)
    index = json.loads(bases.get("/v2/tests/several/manifests/1"))
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm"]

    archive = pybuild.out / "several.tar"
    pybuild("save", "--format", "oci", "-o", archive, "several:1")
    with tarfile.open(archive) as tar:
        (top,) = json.loads(tar.extractfile("index.json").read())["manifests"]  # type: ignore[union-attr]
        blob = tar.extractfile(f"blobs/sha256/{top['digest'][7:]}")
        assert blob is not None and json.loads(blob.read()) == index

    onto = pybuild.context({"Dockerfile": "FROM several:1\nCOPY Dockerfile /\n"}, "onto")
    for platform in PLATFORMS.split(","):
        tree = pybuild.out / platform.replace("/", "-")
        pybuild("build", "--platform", platform, "-o", tree, onto)
        assert (tree / "platform").read_text() == platform + "\n"

    pybuild("rmi", name, "several:1")
    assert pybuild("images", "-q", "several:1").stdout == ""


def test_several_platforms_in_a_directory_and_a_tar(pybuild: Pybuild) -> None:
    place = pybuild.context({"Dockerfile": DOCKERFILE}, "platforms")
    folder, tar = pybuild.out / "split", pybuild.out / "split.tar"
    pybuild("build", "--platform", PLATFORMS, "-o", folder, "-o", f"type=tar,dest={tar}", place)
    names = ["linux_amd64/platform", "linux_arm_v7/platform"]
    assert [(folder / name).read_text() for name in names] == ["linux/amd64\n", "linux/arm/v7\n"]
    with tarfile.open(tar) as archive:
        assert set(names) < set(archive.getnames())


def test_a_layer_from_outside_keeps_its_compression(me: Pybuild) -> None:
    place = me.context({"Dockerfile": "FROM busybox\nRUN echo new > /new\n"}, "compression")
    for compression in ("uncompressed", "zstd", "gzip"):
        archive: Path = me.out / f"{compression}.tar"
        me("build", "-o", f"type=oci,dest={archive},compression={compression}", place)
        image = trees.read_archive(archive)
        assert "/new" in image.tree and "/bin/busybox" in image.tree
        kinds = [layer["mediaType"].rpartition(".tar")[2] for layer in image.manifest["layers"]]
        assert kinds == ["+gzip", {"uncompressed": "", "zstd": "+zstd", "gzip": "+gzip"}[compression]]
