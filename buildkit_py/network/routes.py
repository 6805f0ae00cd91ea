"""The IPv4 routes of the network namespace that this process is in (proc(5), /proc/net/route)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from buildkit_py.tuples import NamedTuple

_AS_GOOD_AS_ALL = 4
"""Programs that carry all traffic (VPNs) make two routes of half of it."""


class Route(NamedTuple):
    device: str
    subnet: ipaddress.IPv4Network
    metric: int


def read() -> Iterator[Route]:
    try:
        with open("/proc/self/net/route") as f:
            lines = f.read().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        mask = bin(_little(fields[7])).count("1")
        subnet = ipaddress.IPv4Network((_little(fields[1]), mask), strict=False)
        yield Route(fields[0], subnet, int(fields[6]))


def subnets(but: str = "") -> Iterator[ipaddress.IPv4Network]:
    """What this machine has routes to, other than by the device ``but``, and those to everything aside."""
    for route in read():
        if route.subnet.prefixlen >= _AS_GOOD_AS_ALL and route.device != but:
            yield route.subnet


def default_device() -> str:
    """That of the default route; "" where there is none."""
    found = [route for route in read() if route.subnet.prefixlen == 0]
    return min(found, key=lambda route: route.metric).device if found else ""


def _little(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")
