"""A container's networks as documents and lists describe them, by docker's field names."""

from __future__ import annotations

from collections.abc import Iterable

from buildkit_py.network.record import Endpoint, State
from buildkit_py.typed import Any


def ports_text(state: State | None) -> str:
    """What is published, as ``0.0.0.0:8080->80/tcp``."""
    shown = []
    for port in state.ports if state is not None else ():
        address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
        shown.append(f"{address}:{port.host}->{port.container}/{port.protocol}")
    return ", ".join(shown)


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
