from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.errors import UsageError
from buildkit_py.image.reference import Reference, parse

D = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("busybox", "docker.io", "library/busybox", "latest", ""),
        ("busybox:1.36", "docker.io", "library/busybox", "1.36", ""),
        ("team/app", "docker.io", "team/app", "latest", ""),
        ("docker.io/busybox", "docker.io", "library/busybox", "latest", ""),
        ("index.docker.io/busybox", "docker.io", "library/busybox", "latest", ""),
        ("registry-1.docker.io/library/busybox", "docker.io", "library/busybox", "latest", ""),
        ("quay.io/a/b/c:v1", "quay.io", "a/b/c", "v1", ""),
        ("localhost/app", "localhost", "app", "latest", ""),
        ("localhost:5000/app", "localhost:5000", "app", "latest", ""),
        ("localhost:5000", "docker.io", "library/localhost", "5000", ""),
        ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000", "a/b", "t", ""),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest", ""),
        ("HOST/app", "HOST", "app", "latest", ""),
        (f"busybox@{D}", "docker.io", "library/busybox", "", D),
        (f"busybox:1@{D}", "docker.io", "library/busybox", "1", D),
        ("a.b/c", "a.b", "c", "latest", ""),
        ("a-b_c__d.e", "docker.io", "library/a-b_c__d.e", "latest", ""),
        ("a---b", "docker.io", "library/a---b", "latest", ""),
        ("app:" + "T" * 128, "docker.io", "library/app", "T" * 128, ""),
        ("app:_x.Y-z", "docker.io", "library/app", "_x.Y-z", ""),
    ],
)
def test_dockers_rules(text: str, registry: str, repository: str, tag: str, digest: str) -> None:
    assert parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" busybox", "not allowed"),
        ("busybox ", "not allowed"),
        ("Busybox", "lower case"),
        ("team/App", "lower case"),
        ("UPPER CASE", "not allowed in a name"),
        ("app:", "is not a tag"),
        ("app:-x", "is not a tag"),
        ("app:" + "t" * 129, "is not a tag"),
        ("app:a:b", "is not a tag"),
        ("app:a/b", "host name"),
        ("app@", "not a digest"),
        ("app@sha256:123", "not a digest"),
        ("app@" + D.upper(), "not a digest"),
        ("http://a.b/c", "scheme"),
        ("a//b", "not allowed"),
        ("/a", "not allowed"),
        ("a/", "not allowed"),
        ("a..b", "not allowed"),
        ("a___b", "not allowed"),
        ("-a", "not allowed"),
        ("a.b/../c", "not allowed"),
        ("localhost:99999/a", "host name"),
        ("localhost:x/a", "host name"),
        ("ex ample.com/a", "host name"),
        ("a.b/", "no name"),
        ("x" * 300, "more than"),
        ("a" * 64, "image id"),
        ("büsybox", "not allowed"),
        ("app\0", "not allowed"),
        ("app:1\n", "is not a tag"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(text)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("busybox", "busybox:latest"),
        ("team/app:1", "team/app:1"),
        ("quay.io/app", "quay.io/app:latest"),
        (f"busybox@{D}", f"busybox@{D}"),
        # Without its registry this one would mean another.
        ("docker.io/library/library/x", "library/library/x:latest"),
        ("docker.io/localhost/x", "docker.io/localhost/x:latest"),
    ],
)
def test_familiar(text: str, short: str) -> None:
    assert parse(text).familiar == short


COMPONENT = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,2}", fullmatch=True)
NAMES = st.builds(
    lambda host, parts, tag: "/".join([*host, *parts]) + tag,
    st.sampled_from([[], ["localhost:5000"], ["quay.io"], ["docker.io"], ["[::1]:80"]]),
    st.lists(COMPONENT, min_size=1, max_size=3),
    st.sampled_from(["", ":1.0", ":latest", f"@{D}", f":x@{D}"]),
)


@given(NAMES)
def test_normalising_is_idempotent_and_familiar_means_the_same(text: str) -> None:
    try:
        once = parse(text)
    except UsageError:
        return
    assert parse(str(once)) == once
    assert parse(once.familiar) == once


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        found = parse(text)
    except UsageError:
        return
    assert str(found).isprintable() and ".." not in found.repository
