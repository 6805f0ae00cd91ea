from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.errors import UsageError
from buildkit_py.exporter import EXPORTERS
from buildkit_py.exporter.spec import OutputSpec, parse_output


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("out", OutputSpec("local", "out")),
        ("./a b", OutputSpec("local", "./a b")),
        ("-", OutputSpec("tar", "-")),
        ("type=local,dest=out", OutputSpec("local", "out")),
        ("type=tar,dest=x.tar", OutputSpec("tar", "x.tar")),
        ("type=tar", OutputSpec("tar", "-")),
        ("type=oci,dest=a.tar", OutputSpec("oci", "a.tar")),
        ("dest=a.tar,type=docker", OutputSpec("docker", "a.tar")),
        ('type=oci,"dest=a,b.tar"', OutputSpec("oci", "a,b.tar")),
        ("type=oci,dest=a=b", OutputSpec("oci", "a=b")),
        ("type=image", OutputSpec("image")),
        ("type=image,name=a,push=true", OutputSpec("image", "", {"name": "a", "push": "true"})),
        ("type=image,push", OutputSpec("image", "", {"push": "true"})),
        ("type=registry,name=r/a", OutputSpec("registry", "", {"name": "r/a"})),
    ],
)
def test_what_is_understood(text: str, spec: OutputSpec) -> None:
    assert parse_output(text) == spec


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("dest=x", "has no type"),
        ("type=zip,dest=x", "'zip' is no type"),
        ("type=local", "needs a directory"),
        ("type=local,dest=-", "standard output"),
        ("type=image,dest=x", "no field 'dest'"),
        ("type=tar,dest=x,name=y", "no field 'name'"),
        ("type=oci,dest=x,dest=y", "twice"),
        ("type=oci,frobnicate", "has no value"),
        ("type=image,push=maybe", "true or false"),
        ("type=oci,dest=x,compression=lzma", "unknown compression"),
        ("type=oci,dest=x,compression-level=high", "must be a number"),
        ("type=image,oci-mediatypes=false", "OCI media types"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_output(text)


def test_attributes() -> None:
    spec = parse_output('type=image,"name=a,b",push=1,compression=zstd,compression-level=5')
    assert spec.names == ("a", "b") and spec.flag("push", False)
    assert (spec.compression, spec.level) == ("zstd", 5)
    plain = parse_output("type=image")
    assert (plain.names, plain.compression, plain.level, plain.flag("push", False)) == (
        (),
        "gzip",
        None,
        False,
    )


def test_every_kind_has_its_module() -> None:
    from importlib import import_module

    for kind in EXPORTERS.values():
        assert callable(import_module(kind.module).export)


@given(st.text(max_size=40))
def test_any_text_is_a_spec_or_a_usage_error(text: str) -> None:
    try:
        assert parse_output(text).kind in EXPORTERS
    except UsageError:
        pass
