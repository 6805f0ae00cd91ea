"""The index of a shared cache: written and read again, and what is hostile in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.cache import shared, sharedread
from buildkit_py.cache.shared import SharedIndex, SharedLayer, SharedResult
from buildkit_py.digest import DiffID, Digest, of_bytes
from buildkit_py.errors import ImageError
from buildkit_py.image import assemble
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import media


def layer(name: str, held: bool = True) -> SharedLayer:
    blob = LayerBlob(media.OCI_LAYER_GZIP, of_bytes(name.encode()), len(name))
    return SharedLayer(DiffID(of_bytes(b"tar of " + name.encode())), blob, held)


A, B, C = layer("a", held=False), layer("bb"), layer("ccc")
INDEX = SharedIndex(
    [
        SharedResult(of_bytes(b"1"), (), (A, B), 5.0),
        SharedResult(of_bytes(b"2"), (of_bytes(b"d"),), (A, B, C), 6.0),
        SharedResult(of_bytes(b"3"), (), (C,), 7.0),
        SharedResult(of_bytes(b"4"), (), (), 8.0),
    ]
)


def test_there_and_back() -> None:
    config, manifest = shared.encode(INDEX)
    read = sharedread.decode(config, "it")
    assert read.results == INDEX.results
    assert read.definitions == {of_bytes(b"d"): of_bytes(b"2")}
    assert shared.encode(read) == (config, manifest)
    document = json.loads(manifest)
    assert document["config"]["digest"] == of_bytes(config)
    assert {d["digest"] for d in document["layers"]} == {B.blob.digest, C.blob.digest}, "held ones alone"


@given(st.permutations(list(INDEX.results.values())))
def test_the_order_says_nothing(results: list[SharedResult]) -> None:
    assert shared.encode(SharedIndex(results)) == shared.encode(INDEX)


def edited(edit: Callable[[Any], object]) -> bytes:
    document = json.loads(shared.encode(INDEX)[0])
    edit(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(version=2),
        lambda d: d.pop("layers"),
        lambda d: d["layers"].__setitem__(0, [0, 0]),
        lambda d: d["layers"].__setitem__(0, [0, 1]),
        lambda d: d["layers"].__setitem__(0, [99, -1]),
        lambda d: d["layers"].__setitem__(0, [-1, -1]),
        lambda d: d["layers"].__setitem__(0, [0, -2]),
        lambda d: d["results"][0].update(layer=99),
        lambda d: d["results"][0].update(layer=-2),
        lambda d: d["results"][0].update(key="sha256:../../etc/passwd"),
        lambda d: d["results"][0].update(definitions=["x"]),
        lambda d: d["blobs"][0].update(digest="md5:00"),
        lambda d: d["blobs"][0].update(diffID="sha256:" + "G" * 64),
        lambda d: d["blobs"][0].update(size=-1),
        lambda d: d["blobs"][0].update(size="1"),
        lambda d: d["blobs"][0].update(mediaType="application/json"),
    ],
)
def test_what_is_malformed_is_refused(edit: Callable[[Any], object]) -> None:
    with pytest.raises(ImageError, match="the cache x"):
        sharedread.decode(edited(edit), "the cache x")


def test_a_small_document_does_not_grow() -> None:
    def grow(document: Any) -> None:
        document["layers"] = [[0, n - 1] for n in range(3000)]
        document["results"] = [
            {"key": of_bytes(str(n).encode()), "definitions": [], "layer": 2999, "created": 0}
            for n in range(1000)
        ]

    with pytest.raises(ImageError, match="more than"):
        sharedread.decode(edited(grow), "it")


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        sharedread.decode(data, "it")


def image(field: Any) -> tuple[bytes, bytes]:
    config = assemble.config_bytes({"os": "linux", shared.INLINE: field}, [A.diff_id, B.diff_id])
    return config, assemble.manifest_bytes(config, [A.blob, B.blob])


def test_inline() -> None:
    results = [INDEX.results[of_bytes(b"1")], SharedResult(of_bytes(b"5"), (of_bytes(b"e"),), (A,), 1.0)]
    read = sharedread.decode_inline(*image(shared.inline(results)), "it")
    assert read is not None
    # An image holds all of its layers.
    assert read.results[of_bytes(b"1")].layers == (A._replace(held=True), B)
    assert read.results[of_bytes(b"5")].layers == (A._replace(held=True),)
    assert read.definitions == {of_bytes(b"e"): of_bytes(b"5")}
    config = assemble.config_bytes({"os": "linux"}, [])
    assert sharedread.decode_inline(config, assemble.manifest_bytes(config, []), "it") is None


@pytest.mark.parametrize(
    "field",
    [
        "x",
        [{"key": Digest("x"), "definitions": [], "layers": 1, "created": 0}],
        [{"key": of_bytes(b""), "definitions": [], "layers": 3, "created": 0}],
        [{"key": of_bytes(b""), "definitions": [], "layers": -1, "created": 0}],
        [{"key": of_bytes(b""), "definitions": ["/"], "layers": 1, "created": 0}],
    ],
)
def test_a_malformed_inline_cache_is_refused(field: Any) -> None:
    with pytest.raises(ImageError):
        sharedread.decode_inline(*image(field), "it")
