"""What --cache-from and --cache-to may say."""

from __future__ import annotations

import sys

import pytest

from buildkit_py.cache import backends
from buildkit_py.cache.backends.options import Options, parse_options
from buildkit_py.errors import UsageError
from buildkit_py.request import CacheSpec


def spec(kind: str, **fields: str) -> CacheSpec:
    return CacheSpec(kind, tuple((k.replace("_", "-"), v) for k, v in fields.items()))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("local", {"src": "x", "digest": "latest"}),
        ("local", {}),
        ("inline", {}),
        ("ftp", {}),
        ("registry", {"ref": "a b"}),
    ],
)
def test_sources_that_make_no_sense(kind: str, fields: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        backends.check_source(spec(kind, **fields))


def test_defaults() -> None:
    assert parse_options(spec("local", dest="x")) == Options()


def test_all_of_them() -> None:
    given = spec(
        "local", dest="x", mode="max", compression="zstd", compression_level="9", force_compression="true"
    )
    assert parse_options(given) == Options("max", "zstd", 9, True)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("true", None),
        ("", None),
        ("false", frozenset()),
        ("/a;/b", frozenset({"/a", "/b"})),
        ("/a, b", frozenset({"/a", "b"})),
    ],
)
def test_mounts(text: str, ids: frozenset[str] | None) -> None:
    assert parse_options(spec("local", dest="x", mounts=text)).mounts == ids


@pytest.mark.parametrize(
    "fields", [{"ignore_error": "maybe"}, {"force_compression": "2"}, {"compression_level": "high"}]
)
def test_what_makes_no_sense(fields: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        parse_options(spec("local", dest="x", **fields))


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    for check in (backends.check_source, backends.check_target):
        with pytest.raises(UsageError, match="needs boto3") as raised:
            check(spec("s3", bucket="b"))
        assert raised.value.hint == "pip install 'buildkit-py[s3]'"


@pytest.mark.parametrize(("text", "seconds"), [("24h", 86400), ("10m", 600), ("1.5s", 1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert backends.duration(text, "it") == seconds
    with pytest.raises(UsageError, match="it="):
        backends.duration(text[:-1], "it")
