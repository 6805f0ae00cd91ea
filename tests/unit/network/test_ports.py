"""What of an image's EXPOSE is published."""

from __future__ import annotations

import pytest

from buildkit_py.network.ports import exposed


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("80", "53/udp", "9/tcp"), ((9, "tcp"), (80, "tcp"), (53, "udp"))),
        (("8000-8002/tcp", "8001"), ((8000, "tcp"), (8001, "tcp"), (8002, "tcp"))),
        (
            ("80/sctp", "abc", "", "0", "65536/tcp", "5-3", "1-70000/tcp", "-1", "\u0661", "1_0", "80/\x1b"),
            (),
        ),
    ],
)
def test_exposed_ports(texts: tuple[str, ...], expected: tuple[tuple[int, str], ...]) -> None:
    assert tuple((port.container, port.protocol) for port in exposed(texts)) == expected
