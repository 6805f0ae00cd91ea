"""--annotation and its places."""

from __future__ import annotations

import pytest

from buildkit_py.errors import UsageError
from buildkit_py.exporter.annotations import Annotation, of_attribute, of_options, select


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org.example.a", [Annotation("manifest", "", "org.example.a", "v")]),
        ("manifest:a", [Annotation("manifest", "", "a", "v")]),
        ("index:a", [Annotation("index", "", "a", "v")]),
        ("manifest-descriptor:a", [Annotation("manifest-descriptor", "", "a", "v")]),
        ("index-descriptor:a", [Annotation("index-descriptor", "", "a", "v")]),
        ("manifest[linux/arm64/v8]:a", [Annotation("manifest", "linux/arm64", "a", "v")]),
        (
            "index,manifest[linux/amd64]:a",
            [Annotation("index", "", "a", "v"), Annotation("manifest", "linux/amd64", "a", "v")],
        ),
    ],
)
def test_options(name: str, expected: list[Annotation]) -> None:
    assert list(of_options([(name, "v")])) == expected


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("layer:a", "no annotations of a 'layer'"),
        ("manifest:", "not of the form"),
        ("x y:a", "not of the form"),
        ("manifest[linux/:a", "not of the form"),
        ("index[linux/amd64]:a", "of no platform"),
        ("manifest[a/b/c/d]:a", "not a platform"),
    ],
)
def test_wrong_options(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        of_options([(name, "v")])


def test_attributes() -> None:
    assert of_attribute("annotation.a.b", "v") == Annotation("manifest", "", "a.b", "v")
    assert of_attribute("annotation[linux/arm/v7].a", "v") == Annotation("manifest", "linux/arm/v7", "a", "v")
    assert of_attribute("annotation-index-descriptor.a", "v") == Annotation("index-descriptor", "", "a", "v")
    assert of_attribute("annotation", "v") is None
    assert of_attribute("name", "v") is None


def test_selection() -> None:
    given = of_options([("a", "1"), ("manifest[linux/arm64]:a", "2"), ("index:a", "3"), ("b", "4")])
    assert select(given, "manifest", "linux/amd64") == {"a": "1", "b": "4"}
    assert select(given, "manifest", "linux/arm64") == {"a": "2", "b": "4"}
    assert select(given, "index") == {"a": "3"}
    assert select(given, "index-descriptor") == {}
