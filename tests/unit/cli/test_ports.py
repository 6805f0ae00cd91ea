from __future__ import annotations

import pytest

from buildkit_py.cli.ports import exposed, published
from buildkit_py.errors import UsageError
from buildkit_py.request import PortSpec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [PortSpec(80)]),
        ("8080:80", [PortSpec(80, first=8080, last=8080)]),
        ("8080:80/udp", [PortSpec(80, "udp", first=8080, last=8080)]),
        ("127.0.0.1:8080:80", [PortSpec(80, "tcp", "127.0.0.1", 8080, 8080)]),
        ("127.0.0.1::80", [PortSpec(80, "tcp", "127.0.0.1")]),
        ("[::1]:8080:80", [PortSpec(80, "tcp", "::1", 8080, 8080)]),
        ("8000-8010:80", [PortSpec(80, first=8000, last=8010)]),
        (
            "1000-1001:2000-2001",
            [PortSpec(2000, first=1000, last=1000), PortSpec(2001, first=1001, last=1001)],
        ),
        ("80-81", [PortSpec(80), PortSpec(81)]),
        ("0:80", [PortSpec(80)]),
        ("127.0.0.1:0:80", [PortSpec(80, "tcp", "127.0.0.1")]),
    ],
)
def test_forms(text: str, expected: list[PortSpec]) -> None:
    assert list(published((text, text))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0",
        "65536",
        "80:",
        "1-3:1-2",
        "9-8",
        "80/",
        "80/sctp",
        "1.2.3:1:2",
        "::1:1:2",
        "[::1]:80",
        "[::1",
    ],
)
def test_wrong_forms(text: str) -> None:
    with pytest.raises(UsageError):
        published((text,))


def test_exposed() -> None:
    assert exposed(("80", "53/udp", "8000-8001")) == ("80/tcp", "53/udp", "8000/tcp", "8001/tcp")
