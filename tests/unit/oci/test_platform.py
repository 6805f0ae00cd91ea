from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.errors import UsageError
from buildkit_py.oci import platform
from buildkit_py.oci.documents import DescriptorDict, platforms, select


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/7", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("i686", "linux/386"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("macos/arm64", "darwin/arm64"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_names(text: str, normal: str) -> None:
    assert str(platform.parse(text)) == normal


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/am d64", "linux/amd64\n", "linux//v7"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(UsageError, match="not a platform"):
        platform.parse(text)


def test_an_operating_system_alone_means_this_processor() -> None:
    assert platform.parse("linux").architecture == platform.host().architecture
    assert platform.host() == platform.normalised("linux", os.uname().machine)


@pytest.mark.parametrize(
    ("wanted", "offered", "rank"),
    [
        ("linux/amd64", "linux/amd64", 0),
        ("linux/arm/v7", "linux/arm/v6", 1),
        ("linux/arm/v7", "linux/arm/v5", 2),
        ("linux/arm/v6", "linux/arm/v7", -1),
        ("linux/amd64/v3", "linux/amd64/v2", 1),
        ("linux/amd64/v3", "linux/amd64", 50),
        ("linux/amd64", "linux/amd64/v3", -1),
        ("linux/arm64", "linux/arm/v7", -1),
        ("linux/arm64/v9", "linux/arm64", 50),
        ("linux/amd64", "windows/amd64", -1),
    ],
)
def test_rank(wanted: str, offered: str, rank: int) -> None:
    assert platform.rank(platform.parse(wanted), platform.parse(offered)) == rank


@given(st.sampled_from(["linux/amd64", "linux/arm/v5", "linux/arm64", "linux/s390x"]))
def test_parsing_is_idempotent(text: str) -> None:
    once = str(platform.parse(text))
    assert str(platform.parse(once)) == once


def entry(digest: str, text: str | None) -> DescriptorDict:
    found: DescriptorDict = {"mediaType": "m", "digest": digest, "size": 1}
    if text is not None:
        system, architecture, *variant = text.split("/")
        found["platform"] = {"os": system, "architecture": architecture}
        if variant:
            found["platform"]["variant"] = variant[0]
    return found


def chosen(entries: list[DescriptorDict], text: str) -> str | None:
    found = select(entries, platform.parse(text))
    return None if found is None else found["digest"]


def test_the_best_entry_of_an_index() -> None:
    entries = [
        entry("attestation", "unknown/unknown"),
        entry("v5", "linux/arm/v5"),
        entry("v6", "linux/arm/v6"),
        entry("arm64", "linux/arm64/v8"),
        entry("amd64", "linux/amd64"),
        entry("amd64 again", "linux/amd64"),
    ]

    assert chosen(entries, "linux/amd64") == "amd64"
    assert chosen(entries, "linux/arm/v7") == "v6"
    assert chosen(entries, "linux/arm64") == "arm64"
    assert chosen(entries, "linux/s390x") is None
    assert platforms(entries) == ["linux/amd64", "linux/arm/v5", "linux/arm/v6", "linux/arm64"]


def test_an_entry_without_platform_is_the_last_resort() -> None:
    both = [entry("bare", None), entry("amd64", "linux/amd64")]
    assert chosen(both, "linux/amd64") == "amd64"
    assert chosen(both, "linux/arm64") == "bare"
