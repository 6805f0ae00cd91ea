from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.errors import UsageError
from buildkit_py.exporter import EXPORTERS
from buildkit_py.exporter.annotations import Annotation
from buildkit_py.exporter.spec import OutputSpec, Packing, parse_output, spec_of
from buildkit_py.request import Output


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("out", Output("local", (("dest", "out"),))),
        ("./a b", Output("local", (("dest", "./a b"),))),
        ("-", Output("tar", (("dest", "-"),))),
        ("type=local,dest=out", Output("local", (("dest", "out"),))),
        ("type=tar", Output("tar")),
        ("dest=a.tar,type=docker", Output("docker", (("dest", "a.tar"),))),
        ("type=docker", Output("docker")),
        ('type=oci,"dest=a,b.tar"', Output("oci", (("dest", "a,b.tar"),))),
        ("type=oci,dest=a=b", Output("oci", (("dest", "a=b"),))),
        ("type=image", Output("image")),
        ("type=image,name=a,push=false", Output("image", (("name", "a"), ("push", "false")))),
        ("type=image,push", Output("image", (("push", "true"),))),
        ("type=image,push=True,store=F", Output("image", (("push", "true"), ("store", "false")))),
        ("type=registry,NAME=r/a", Output("image", (("name", "r/a"), ("push", "true")))),
        ("type=cacheonly", Output("cacheonly")),
        ("type=image,annotation.aB=c", Output("image", (("annotation.aB", "c"),))),
    ],
)
def test_what_is_understood(text: str, output: Output) -> None:
    assert parse_output(text) == output
    assert output.get("missing", "default") == "default"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("dest=x", "has no type"),
        ("=x", "has no type"),
        ("type=zip,dest=x", "'zip' is no type"),
        ("type=local", "needs a directory"),
        ("type=local,dest=-", "standard output"),
        ("type=image,dest=x", "no field 'dest'"),
        ("type=cacheonly,dest=x", "no field 'dest'"),
        ("type=tar,dest=x,name=y", "no field 'name'"),
        ("type=tar,dest=x,annotation.a=b", "no field 'annotation.a'"),
        ("type=oci,dest=x,dest=y", "twice"),
        ("type=a,type=b", "twice"),
        ("type=oci,frobnicate", "has no value"),
        ("type=image,push=maybe", "true or false"),
        ("type=oci,dest=x,compression-level=10", "gzip has no compression level 10"),
        ("type=oci,dest=x,compression=zstd,compression-level=23", "zstd has no compression level 23"),
        ("type=oci,dest=x,oci-artifact=1,oci-mediatypes=0", "know no artifacts"),
        ("type=oci,dest=x,store=false", "no field 'store'"),
        ("type=oci,dest=x,compression=lzma", "unknown compression"),
        ("type=oci,dest=x,compression=estargz", "estargz is not supported"),
        ("type=oci,dest=x,compression-level=high", "must be a number"),
        ("type=oci,tar=false", "needs a directory"),
        ("type=image,oci-mediatypes=false,annotation.a=b", "no annotations"),
        ("type=image,annotation-layer.a=b", "no annotations of a 'layer'"),
        ("type=image,annotation-index[linux/amd64].a=b", "of no platform"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_output(text)


def test_what_exporters_get() -> None:
    spec = spec_of(parse_output("type=tar"))
    assert (spec.kind, spec.dest) == ("tar", "-")
    assert spec_of(parse_output("out")) == OutputSpec("local", "out")
    text = (
        'type=image,"name=a,b",push=1,compression=zstd,compression-level=5,force-compression,annotation.k=v'
    )
    spec = spec_of(parse_output(text), (Annotation("index", "", "i", "j"),), "2020-01-01T00:00:00Z")
    assert spec.names == ("a", "b") and spec.flag("push", False)
    given = (Annotation("index", "", "i", "j"), Annotation("manifest", "", "k", "v"))
    assert spec.packing == Packing("zstd", 5, True, False, given, "2020-01-01T00:00:00Z")
    plain = spec_of(parse_output("type=image"))
    assert (plain.names, plain.packing, plain.flag("push", False)) == ((), Packing(), False)
    assert spec_of(parse_output("type=oci,dest=x,oci-mediatypes=0")).packing.docker


def test_every_kind_has_its_module() -> None:
    from importlib import import_module

    for kind in EXPORTERS.values():
        assert callable(import_module(kind.module).export)


@given(st.text(max_size=40))
def test_any_text_is_a_spec_or_a_usage_error(text: str) -> None:
    try:
        assert parse_output(text).kind in (*EXPORTERS, "cacheonly")
    except UsageError:
        pass
