from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.errors import ImageError
from buildkit_py.oci import media, validate

D = "sha256:" + "a" * 64


def descriptor(**changes: Any) -> dict[str, Any]:
    return {"mediaType": media.OCI_LAYER_GZIP, "digest": D, "size": 3, **changes}


def manifest(**changes: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": descriptor(mediaType=media.OCI_CONFIG),
        "layers": [descriptor()],
        **changes,
    }
    return json.dumps(document).encode()


def config(**changes: Any) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [D]},
        **changes,
    }
    return json.dumps(document).encode()


def test_a_sound_manifest() -> None:
    checked = validate.manifest(manifest(unknown={"x": 1}, annotations={"a": "b"}))
    assert checked.config.digest == D and checked.layers[0].size == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        manifest(schemaVersion=1),
        manifest(manifests=[]),
        manifest(mediaType=media.OCI_INDEX),
        manifest().replace(b"{", b'{"unknown": ' + b"1" * 5000 + b", ", 1),
        manifest(schemaVersion="2"),
        manifest(config=None),
        manifest(layers={}),
        manifest(layers=[descriptor()] * 1001),
        manifest(layers=[descriptor(size=-1)]),
        manifest(layers=[descriptor(size=1.5)]),
        manifest(layers=[descriptor(size="3")]),
        manifest(layers=[descriptor(digest="sha256:../../etc/passwd")]),
        manifest(layers=[descriptor(digest="sha512:" + "a" * 128)]),
        manifest(layers=[descriptor(digest="sha256:" + "A" * 64)]),
        manifest(layers=[descriptor(mediaType="application/vnd.in-toto+json")]),
        manifest(layers=[descriptor(mediaType=7)]),
        manifest(config=descriptor(size=5 << 20)),
        manifest(annotations={"a": 1}),
        manifest(padding="x" * (4 << 20)),
    ],
    ids=lambda data: repr(data[:40]),
)
def test_a_manifest_that_is_not_sound(data: bytes) -> None:
    with pytest.raises(ImageError):
        validate.manifest(data)


def test_the_message_names_the_image_and_the_algorithm() -> None:
    with pytest.raises(ImageError, match="the manifest of x:1 holds 'md5:1'") as caught:
        validate.manifest(manifest(layers=[descriptor(digest="md5:1")]), "the manifest of x:1")
    assert "sha256" in caught.value.hint


def test_schema_1_is_told_by_its_version() -> None:
    with pytest.raises(ImageError, match="schema version 1"):
        validate.manifest(b'{"schemaVersion": 1, "name": "x", "fsLayers": []}')


@pytest.mark.parametrize("rootfs", [{"type": "layers"}, {"type": "layers", "diff_ids": None}])
def test_an_image_without_layers(rootfs: dict[str, Any]) -> None:
    assert validate.config(config(rootfs=rootfs)).rootfs.diff_ids == []
    assert validate.manifest(manifest(layers=None)).layers == []


def test_a_sound_config_with_dockers_nulls() -> None:
    run: dict[str, Any] = {"Env": None, "Cmd": None, "Volumes": None, "ExposedPorts": {"80/tcp": {}}}
    checked = validate.config(config(config=run, history=[{"empty_layer": True}]))
    assert checked.config is not None and checked.config.env is None


@pytest.mark.parametrize(
    "data",
    [
        config(rootfs=None),
        config(rootfs={"type": "tarball", "diff_ids": []}),
        config(rootfs={"type": "layers", "diff_ids": ["x"]}),
        config(rootfs={"type": "layers", "diff_ids": [1]}),
        config(config={"Env": "PATH=/bin"}),
        config(config={"Env": ["PATH=/bin\0LD_PRELOAD=x"]}),
        config(config={"Cmd": [None]}),
        config(config={"WorkingDir": "/a\0b"}),
        config(config={"Volumes": {"/a\0b": {}}}),
        config(config={"Healthcheck": {"Interval": 10**30}}),
        config(config={"Labels": {"a": None}}),
        config(config={"Healthcheck": {"Interval": "1s"}}),
        config(history={}),
        config(architecture=["amd64"]),
    ],
    ids=lambda data: repr(data[-60:]),
)
def test_a_config_that_is_not_sound(data: bytes) -> None:
    with pytest.raises(ImageError):
        validate.config(data)


def test_index_or_manifest() -> None:
    index = json.dumps({"schemaVersion": 2, "manifests": [descriptor()]}).encode()
    assert validate.is_index(index) and not validate.is_index(manifest())
    assert validate.is_index(b"{}", media.DOCKER_LIST) and not validate.is_index(b"{}", media.DOCKER_MANIFEST)
    assert validate.index(index).manifests[0].digest == D


@pytest.mark.parametrize("changes", [{"config": {}}, {"layers": []}, {"mediaType": media.OCI_MANIFEST}])
def test_an_index_that_could_be_a_manifest(changes: dict[str, Any]) -> None:
    document = {"schemaVersion": 2, "manifests": [descriptor()], **changes}
    with pytest.raises(ImageError, match="could be taken for either"):
        validate.index(json.dumps(document).encode())


@given(st.binary(max_size=200))
def test_any_bytes_end_as_image_error(data: bytes) -> None:
    for check in (validate.manifest, validate.index, validate.config):
        try:
            check(data)
        except ImageError:
            pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["config", "layers", "rootfs", "history", "manifests"]), JSON)
def test_any_value_in_any_place_ends_as_image_error(key: str, value: Any) -> None:
    for check, sound in (
        (validate.manifest, manifest),
        (validate.config, config),
        (validate.index, manifest),
    ):
        try:
            check(sound(**{key: value}))
        except ImageError:
            pass
