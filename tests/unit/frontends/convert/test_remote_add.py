"""ADD of URLs and git repositories: how they are converted."""

from __future__ import annotations

import pytest

from buildkit_py.frontends.dockerfile.instructions.add import is_git, parse_git
from buildkit_py.llb.ops import Copy, File, GitSource, HttpSource, LocalSource
from tests.unit.frontends.convert.building import Builder

SUM = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("source", "git"),
    [
        ("https://h.example/a.git", True),
        ("https://h.example/a.git#main:dir", True),
        ("https://h.example/a.git?ref=v1", True),
        ("http://h.example/a", False),
        ("https://h.example/a#x.git", False),
        ("git@h.example:a/b", True),
        ("git://h.example/a", True),
        ("ssh://git@h.example/a", True),
        ("a.git", False),
        ("./git@x", False),
    ],
)
def test_is_git(source: str, git: bool) -> None:
    assert is_git(source) is git


@pytest.mark.parametrize(
    ("source", "node"),
    [
        ("https://h/a.git", GitSource("https://h/a.git")),
        ("https://h/a.git#v1", GitSource("https://h/a.git", "v1")),
        ("https://h/a.git#v1:sub/dir", GitSource("https://h/a.git", "v1", "sub/dir")),
        ("https://h/a.git#:sub", GitSource("https://h/a.git", "", "sub")),
        ("https://h/a.git?branch=b&subdir=s", GitSource("https://h/a.git", "refs/heads/b", "s")),
        ("https://h/a.git?tag=t&checksum=abc", GitSource("https://h/a.git", "refs/tags/t", "", "abc")),
        ("https://h/a.git?keep-git-dir=1", GitSource("https://h/a.git", keep_git_dir=True)),
        ("https://h/a.git?submodules=false", GitSource("https://h/a.git", submodules=False)),
        ("git@h:a/b#v1", GitSource("git@h:a/b", "v1")),
    ],
)
def test_parse_git(source: str, node: GitSource) -> None:
    assert parse_git(source) == node


@pytest.mark.parametrize(
    "query", ["?what=1", "?ref=a&tag=b", "?ref=a&ref=b", "?ref=a#b", "?subdir=a#b:c", "?submodules=maybe"]
)
def test_malformed_git(build: Builder, query: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_git(f"https://h/a.git{query}")
    assert build.error(f"FROM base\nADD https://h/a.git{query} /x\n").start == 2


def test_url(build: Builder) -> None:
    built = build("FROM base\nADD --chmod=644 https://h/d/f.txt?x=1 /d/\n")
    assert built.ops(HttpSource) == [HttpSource("https://h/d/f.txt?x=1", "", "f.txt")]
    assert built.ops(File)[0].actions == (Copy(1, ("f.txt",), "/d/", keep_owner=True, chmod="644"),)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a%20b.txt", "a b.txt"),
        ("https://h/a/b/?q=/c", "b"),
        ("https://h/a%2Fb#c/d", "b"),
        ("https://u:p@h/x", "x"),
    ],
)
def test_name_of_url(build: Builder, url: str, name: str) -> None:
    built = build(f"FROM base\nADD {url} /d/\n")
    assert [op.name for op in built.ops(HttpSource)] == [name]
    assert not any("u:p" in n.meta.name for n in built.nodes if isinstance(n.op, HttpSource))


def test_url_with_checksum_and_unpack(build: Builder) -> None:
    built = build(f"FROM base\nARG S={SUM}\nADD --checksum=$S --unpack https://h/f.tgz /d\n")
    assert built.ops(HttpSource) == [HttpSource("https://h/f.tgz", SUM, "f.tgz")]
    assert built.ops(File)[0].actions[0].unpack == "always"


def test_git(build: Builder) -> None:
    built = build("FROM base\nADD --keep-git-dir https://h/a.git#v1 /src\n")
    assert built.ops(GitSource) == [GitSource("https://h/a.git", "v1", keep_git_dir=True)]
    assert built.ops(File)[0].actions == (Copy(1, ("/",), "/src"),)


def test_mixed(build: Builder) -> None:
    built = build("FROM base\nADD a.tar https://h/f b https://h/g.git /d/\n")
    assert [type(built.result.graph.nodes[i].op) for i in built.root.inputs[1:]] == [
        LocalSource,
        HttpSource,
        GitSource,
    ]
    assert built.ops(File)[0].actions[0].sources == ("a.tar", "b")


@pytest.mark.parametrize(
    "text",
    [
        "ADD --checksum=sha256:0 a /b",
        "ADD --checksum=sha256:0 https://h/a https://h/b /c/",
        "ADD --keep-git-dir a /b",
        "ADD https://h/ /d/",
        "ADD https://h/%2e%2e /d/",
        "ADD --checksum=sha256:0 https://h/a /b",
        "ADD --checksum=md5:0 https://h/a /b",
        "ADD --checksum=a https://h/a.git?checksum=b /d",
        "ADD https://h/a https://h/b /d",
        "ADD a https://h/b /d",
    ],
)
def test_bad_flags(build: Builder, text: str) -> None:
    assert build.error(f"FROM base\n{text}\n").start == 2
