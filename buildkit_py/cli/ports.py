"""Published ports, as they are typed: ``[[HOST-IP:][HOST-PORT]:]PORT[/PROTOCOL]``, with ranges.

A host port 0 is any free one, as without.
"""

from __future__ import annotations

from buildkit_py.errors import UsageError
from buildkit_py.request import PortSpec

_HINT = "for example 8080:80, 127.0.0.1:8080:80, 5353:53/udp or 8000-8009:8000-8009"


def published(texts: tuple[str, ...], option: str = "--publish") -> tuple[PortSpec, ...]:
    """The ports of all ``-p``. Raises UsageError for one of a wrong form."""
    result: list[PortSpec] = []
    for text in texts:
        result += _ports(text, option)
    return tuple(dict.fromkeys(result))


def _ports(text: str, option: str) -> list[PortSpec]:
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in ("tcp", "udp"):
        raise UsageError(
            f"{option}: the protocol of '{text}' is {protocol or 'empty'}",
            hint="tcp and udp can be published",
        )
    address, host, container = _parts(rest, text, option)
    host = "" if host == "0" else host
    inner = port_range(container, text, option)
    outer = port_range(host, text, option) if host else (0, 0)
    count = inner[1] - inner[0] + 1
    if not host or count == 1:
        return [PortSpec(port, protocol, address, *outer) for port in range(inner[0], inner[1] + 1)]
    if outer[1] - outer[0] + 1 != count:
        raise UsageError(f"{option}: the two ranges of '{text}' differ in length", hint=_HINT)
    return [PortSpec(inner[0] + n, protocol, address, outer[0] + n, outer[0] + n) for n in range(count)]


def _parts(rest: str, text: str, option: str) -> tuple[str, str, str]:
    """(host address, host ports, container ports); an IPv6 address stands in brackets."""
    address = ""
    if rest.startswith("["):
        address, bracket, rest = rest[1:].partition("]:")
        if not bracket:
            raise UsageError(f"{option}: '{text}' is not understood", hint=_HINT)
        host, colon, container = rest.rpartition(":")
        if not colon:
            raise UsageError(f"{option}: '{text}' names no port of the container", hint=_HINT)
    else:
        before, _, container = rest.rpartition(":")
        address, colon, host = before.rpartition(":")
        if ":" in address:
            raise UsageError(f"{option}: '{text}' is not understood", hint=f"{_HINT}; IPv6 in brackets")
    if address:
        _check_address(address, text, option)
    return address, host, container


def _check_address(address: str, text: str, option: str) -> None:
    import ipaddress

    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise UsageError(f"{option}: '{address}' in '{text}' is not an address", hint=_HINT) from None


def port_range(text: str, whole: str, option: str) -> tuple[int, int]:
    """``80`` or ``80-89``: first and last, 1 to 65535."""
    first, dash, last = text.partition("-")
    if first.isdecimal() and (last.isdecimal() if dash else True):
        low, high = int(first), int(last or first)
        if 0 < low <= high <= 65535:
            return low, high
    raise UsageError(f"{option}: '{text}' in '{whole}' is no port or range of ports", hint=_HINT)


def exposed(texts: tuple[str, ...], option: str = "--expose") -> tuple[str, ...]:
    """``80``, ``53/udp``, ``8000-8009``, one port an item."""
    result = []
    for text in texts:
        ports, slash, protocol = text.partition("/")
        protocol = protocol.lower() if slash else "tcp"
        if protocol not in ("tcp", "udp", "sctp"):
            raise UsageError(f"{option}: '{protocol}' in '{text}' is no protocol", hint="tcp and udp are")
        low, high = port_range(ports, text, option)
        result += [f"{port}/{protocol}" for port in range(low, high + 1)]
    return tuple(result)
