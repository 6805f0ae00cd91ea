"""Publishing a container's ports on this machine: sockets that listen, before the container starts.

The listening sockets are made by the process that starts the container, so that a port that is taken is an
error at once; buildkit_py.network.forward carries what comes in.
"""

from __future__ import annotations

import _socket
import errno
import os
from collections.abc import Callable, Iterable, Sequence

from buildkit_py.errors import NetworkError
from buildkit_py.network.record import Published
from buildkit_py.request import PortSpec
from buildkit_py.tuples import NamedTuple

_TRIES = 32
_BACKLOG = 4096


class Listener(NamedTuple):
    sock: _socket.socket
    port: Published


def exposed(config_ports: Iterable[str]) -> tuple[PortSpec, ...]:
    """The ports of an image's EXPOSE (and --expose) as -P publishes them, in their order; not those of sctp,
    and none where an image of another builder has something that is no port there."""
    found: set[tuple[str, int]] = set()
    for text in config_ports:
        numbers, _, protocol = text.partition("/")
        first, dash, last = numbers.partition("-")
        ends = [int(end) for end in (first, last if dash else first) if end.isascii() and end.isdigit()]
        if (protocol or "tcp") in ("tcp", "udp") and len(ends) == 2 and 0 < ends[0] <= ends[1] <= 65535:
            found.update((protocol or "tcp", port) for port in range(ends[0], ends[1] + 1))
    return tuple(PortSpec(port, protocol) for protocol, port in sorted(found))


def listen(specs: Sequence[PortSpec], holder_of: Callable[[int, str], str]) -> tuple[Listener, ...]:
    """Listen on the host ports of all ``specs``. Raises NetworkError for one that can't be had.

    ``holder_of`` gives the name of the container that has a host port, "" where none of ours does.
    """
    made: list[Listener] = []
    try:
        for spec in specs:
            made += _listen(spec, holder_of)
    except BaseException:
        close(made)
        raise
    return tuple(made)


def close(listeners: Iterable[Listener]) -> None:
    for listener in listeners:
        listener.sock.close()


def _listen(spec: PortSpec, holder_of: Callable[[int, str], str]) -> list[Listener]:
    last = spec.last or spec.first
    error: OSError | None = None
    for port in range(spec.first, last + 1) if spec.first else [0] * _TRIES:
        try:
            return _bind_all(spec, port)
        except OSError as e:
            error = e
            if e.errno != errno.EADDRINUSE:
                break
    assert error is not None
    raise _explained(spec, error, holder_of(spec.first, spec.protocol) if 0 < spec.first == last else "")


def _bind_all(spec: PortSpec, port: int) -> list[Listener]:
    """On both families where no address is given; on one port of both."""
    if spec.host_ip:
        sock = _bind(_family(spec.host_ip), spec.protocol, spec.host_ip, port)
        return [_listener(sock, spec, spec.host_ip)]
    first = _bind(_socket.AF_INET, spec.protocol, "0.0.0.0", port)
    made = [_listener(first, spec, "0.0.0.0")]
    try:
        sock = _bind(_socket.AF_INET6, spec.protocol, "::", made[0].port.host)
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            first.close()
            raise
        # A machine without IPv6.
        return made
    return [*made, _listener(sock, spec, "::")]


def _listener(sock: _socket.socket, spec: PortSpec, host_ip: str) -> Listener:
    return Listener(sock, Published(spec.container, spec.protocol, host_ip, sock.getsockname()[1]))


def _family(address: str) -> int:
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET


def _bind(family: int, protocol: str, address: str, port: int) -> _socket.socket:
    tcp = protocol == "tcp"
    kind = _socket.SOCK_STREAM if tcp else _socket.SOCK_DGRAM
    sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        if tcp:
            # Not for udp: there it would let two containers have one port.
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if tcp:
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _explained(spec: PortSpec, error: OSError, holder: str) -> NetworkError:
    ports = str(spec.first) if spec.last in (0, spec.first) else f"{spec.first}-{spec.last}"
    where = f"{spec.host_ip or '*'}:{ports}/{spec.protocol}"
    if error.errno == errno.EADDRINUSE:
        if spec.last > spec.first:
            return NetworkError(f"every host port of {where} is taken", hint="give another range")
        if holder:
            return NetworkError(f"the host port {where} is taken by the container {holder}", hint=_OTHER)
        kind = "t" if spec.protocol == "tcp" else "u"
        return NetworkError(
            f"the host port {where} is taken",
            hint=f"{_OTHER}; `ss -lnp{kind} 'sport = :{spec.first}'` says who has it",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return NetworkError(
            f"the host port {where} is kept for root",
            hint="publish a port from 1024 on, or `sudo sysctl -w net.ipv4.ip_unprivileged_port_start="
            f"{spec.first}`",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return NetworkError(f"{spec.host_ip} is no address of this machine", hint="`ip addr` lists them")
    return NetworkError(f"cannot listen on {where}: {os.strerror(error.errno or 0)}")


_OTHER = "publish another host port, or leave it out for a free one"
