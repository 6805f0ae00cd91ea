"""A container's networks as documents and lists describe them, by docker's field names."""

from __future__ import annotations

from collections.abc import Iterable

from buildkit_py.network.record import Endpoint, State
from buildkit_py.typed import Any


def ports_text(state: State | None, exposed: Iterable[str] = ()) -> str:
    """What is published and what else is exposed, in docker's form and order: neighbours as ranges, and last
    what has another number on this machine."""
    if state is None or state.mode in ("host", "none") or state.mode.startswith("container:"):
        exposed = ()
    published = {f"{port.container}/{port.protocol}" for port in state.ports} if state is not None else set()
    ports = [(p.container, p.host_ip, p.host, p.protocol) for p in (state.ports if state is not None else ())]
    for text in exposed:
        number, _, protocol = text.partition("/")
        if text not in published and number.isdecimal():
            ports.append((int(number), "", 0, protocol or "tcp"))
    groups: dict[tuple[str, str], tuple[int, int]] = {}
    shown, moved = [], []
    for inner, address, outer, protocol in sorted(ports):
        if address and inner != outer:
            moved.append(f"{_bracketed(address)}:{outer}->{inner}/{protocol}")
            continue
        key = address, protocol
        first, last = groups.get(key, (inner, inner))
        if inner > last + 1:
            shown.append(_group(key, first, last))
            first = inner
        groups[key] = first, inner
    return ", ".join([*shown, *(_group(key, *group) for key, group in groups.items()), *moved])


def _group(key: tuple[str, str], first: int, last: int) -> str:
    address, protocol = key
    ports = f"{first}-{last}" if last > first else str(first)
    return (f"{_bracketed(address)}:{ports}->" if address else "") + f"{ports}/{protocol}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def names(state: State | None, asked: Iterable[str]) -> list[str]:
    """The networks of a container; ``asked`` are those that it was made for."""
    if state is None:
        return list(asked) or ["default"]
    return [endpoint.network for endpoint in state.endpoints] or [state.mode]


def settings(state: State | None, exposed: Iterable[str], container: str) -> dict[str, Any]:
    """``NetworkSettings`` of ``docker inspect``; ``exposed`` are the ports of the image's EXPOSE."""
    known = state or State()
    ports: dict[str, list[dict[str, str]] | None] = dict.fromkeys(exposed)
    for port in known.ports:
        bound = ports.get(f"{port.container}/{port.protocol}") or []
        ports[f"{port.container}/{port.protocol}"] = [
            *bound,
            {"HostIp": port.host_ip, "HostPort": str(port.host)},
        ]
    first = known.joined[0] if known.joined else Endpoint("")
    return {
        "Ports": ports,
        "IPAddress": first.ip,
        "IPPrefixLen": first.prefix,
        "Gateway": first.gateway,
        "MacAddress": first.mac,
        "Networks": {e.network: _endpoint(e, known.name, container) for e in known.endpoints},
    }


def _endpoint(endpoint: Endpoint, name: str, container: str) -> dict[str, Any]:
    wanted = {"IPv4Address": endpoint.wanted_ip} if endpoint.wanted_ip else None
    return {
        "IPAMConfig": wanted,
        "Aliases": list(endpoint.aliases) or None,
        "DNSNames": [name, *endpoint.aliases, container[:12]] if endpoint.network_id else None,
        "NetworkID": endpoint.network_id,
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.ip,
        "IPPrefixLen": endpoint.prefix,
        "MacAddress": endpoint.mac,
    }
