from __future__ import annotations

import json
from typing import Any

from buildkit_py.digest import DiffID, Digest
from buildkit_py.image import assemble
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import media, validate

A, B = DiffID("sha256:" + "a" * 64), DiffID("sha256:" + "b" * 64)


def config(history: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {"os": "linux", "architecture": "amd64", "config": {"Env": ["A=ü"]}}
    if history is not None:
        document["history"] = history
    return document


def test_the_bytes_are_canonical() -> None:
    shuffled = dict(reversed(list(config().items())))
    data = assemble.config_bytes(config(), [A, B])
    assert data == assemble.config_bytes(shuffled, [A, B])
    assert b" " not in data and "ü".encode() in data
    assert json.loads(data)["rootfs"] == {"type": "layers", "diff_ids": [A, B]}
    validate.config(data)


def test_what_is_not_utf8_is_replaced() -> None:
    document = json.loads(assemble.config_bytes({"config": {"Labels": {"a": "b\udcff"}}}, []))
    assert document["config"]["Labels"] == {"a": "b\ufffd"}


def test_the_config_given_is_left_alone() -> None:
    given = config([{"created_by": "x"}])
    assemble.config_bytes(given, [])
    assert "rootfs" not in given and given["history"] == [{"created_by": "x"}]


def entries(history: list[dict[str, Any]], layers: list[DiffID]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(assemble.config_bytes(config(history), layers))["history"]
    return found


def test_history_that_fits_stays() -> None:
    history: list[dict[str, Any]] = [{"created_by": "base"}, {"empty_layer": True}, {"created_by": "RUN"}]
    assert entries(history, [A, B]) == history


def test_a_base_without_history_gets_one() -> None:
    assert entries([{"created_by": "RUN"}], [A, B]) == [
        {"comment": "layer without history"},
        {"created_by": "RUN"},
    ]


def test_too_much_history_is_corrected_from_the_oldest() -> None:
    assert entries([{"created_by": "old"}, {"created_by": "RUN"}], [A]) == [
        {"created_by": "old", "empty_layer": True},
        {"created_by": "RUN"},
    ]


def test_no_history_at_all_stays_so() -> None:
    assert "history" not in json.loads(assemble.config_bytes(config(), [A]))


def test_manifest() -> None:
    data = assemble.config_bytes(config(), [A])
    blob = LayerBlob(media.OCI_LAYER_GZIP, Digest("sha256:" + "c" * 64), 7)
    manifest = assemble.manifest_bytes(data, [blob], {"k": "v"})
    checked = validate.manifest(manifest)
    assert checked.config.digest == assemble.image_id(data) and checked.config.size == len(data)
    assert [(d.digest, d.size, d.media_type) for d in checked.layers] == [(blob.digest, 7, blob.media_type)]
    index = assemble.index_bytes([assemble.descriptor(media.OCI_MANIFEST, blob.digest, 3)])
    assert validate.index(index).manifests[0].size == 3
