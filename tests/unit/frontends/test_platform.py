from __future__ import annotations

import pytest

from buildkit_py.frontends.dockerfile import platform
from buildkit_py.frontends.dockerfile.platform import Platform


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("LINUX/x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("amd64", "linux/amd64"),
        ("arm/v6", "linux/arm/v6"),
        ("windows/amd64", "windows/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("linux", f"linux/{platform.host().arch}"),
    ],
)
def test_parse(text: str, normal: str) -> None:
    assert str(platform.parse(text)).startswith(normal)


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "nonsense", "linux/a b", "linux/$X"])
def test_malformed(text: str) -> None:
    with pytest.raises(ValueError, match=r"platform|known"):
        platform.parse(text)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"os": "linux", "architecture": "arm64", "variant": "v8"}, Platform("linux", "arm64")),
        ({"os": "linux", "architecture": "arm", "variant": "v6"}, Platform("linux", "arm", "v6")),
        ({"os": "linux"}, None),
        ({"os": 1, "architecture": []}, None),
        ({"os": "linux", "architecture": "amd64", "variant": 5}, Platform("linux", "amd64")),
    ],
)
def test_of_config(config: dict[str, object], found: Platform | None) -> None:
    assert platform.of_config(config) == found
