"""A container's network, from what was asked for to what its sandbox gets.

plan      before the process enters its namespaces: which network, which ports
connect   when the container's row is there: a namespace, addresses, listening sockets
close     when it ended
"""

from __future__ import annotations

import _socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from buildkit_py.errors import NetworkError, UsageError
from buildkit_py.network import private
from buildkit_py.network.resolv import given_resolv_text, hosts_text, resolv_text
from buildkit_py.sandbox.spec import SandboxSpec

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.network.forward import Forwarder
    from buildkit_py.network.record import State
    from buildkit_py.request import Networking, Pairs, PortSpec

SLIRP_ADDRESS = "10.0.2.100"


class Connection:
    """The network of one container that runs. To be closed when it has ended."""

    def __init__(
        self, engine: Engine, container: str, request: Networking, network: Literal["host", "none", "private"]
    ) -> None:
        self._engine = engine
        self._container = container
        self._request = request
        self._network = network
        self._forwarder: Forwarder | None = None
        self._recorded = False

    @property
    def namespace(self) -> int:
        """The namespace that was made for the container; -1: its sandbox makes one, or shares ours."""
        return self._forwarder.namespace if self._forwarder is not None else -1

    def forward(self, ports: tuple[PortSpec, ...]) -> None:
        """Make ``ports`` the machine's. Raises NetworkError for one that can't be had."""
        from buildkit_py.network import forward
        from buildkit_py.network.ports import listen

        listeners = listen(ports, lambda port, protocol: holder_of(self._engine, port, protocol))
        self._forwarder = forward.start(listeners)
        self.record(tuple(listener.port for listener in listeners))

    def record(self, ports: tuple[object, ...] = ()) -> None:
        from buildkit_py.network.record import Endpoint, State

        endpoints = (Endpoint("private"),) if self._network == "private" else ()
        self._recorded = True
        self._engine.container_networks.save(
            self._container,
            State(self._network, endpoints, ports),  # type: ignore[arg-type]
        )

    def fit(self, spec: SandboxSpec) -> SandboxSpec:
        """The sandbox's spec with its network and the names that it finds there."""
        request, network = self._request, self._network
        resolv = resolv_text(network)
        if request.dns or request.dns_search or request.dns_options:
            resolv = given_resolv_text(resolv, request.dns, request.dns_search, request.dns_options)
        extra = with_gateway(request.extra_hosts, network)
        return spec._replace(
            network=network,
            domainname=request.domainname,
            hosts=hosts_text(spec.hostname, extra, domain=request.domainname),
            resolv_conf=resolv,
        )

    def close(self) -> None:
        """Give the ports back. Safe to call twice."""
        if self._forwarder is not None:
            self._forwarder.close()
            self._forwarder = None
        if self._recorded:
            self._engine.container_networks.ended(self._container)
            self._recorded = False


def mode_of(request: Networking) -> Literal["host", "none", "private"]:
    """Raises UsageError for a network that isn't known."""
    ports = bool(request.ports or request.publish_all)
    name = request.networks[0].name if request.networks else "default"
    if name in ("", "default"):
        return "private" if ports else "host"
    if name == "host":
        return "host"
    if name == "none":
        return "none"
    if name == "private":
        return "private"
    raise UsageError(f"unknown network {name!r}", hint="host, none and private are known")


def connect(
    engine: Engine, container: str, request: Networking, exposed: Iterable[str], warn: Callable[[str], None]
) -> Connection:
    """Connect a container that is about to start; ``exposed`` is its image's EXPOSE.

    Only in a process with one thread. Raises NetworkError and UsageError.
    """
    network = mode_of(request)
    ports = wanted_ports(request, exposed)
    if network == "private" and not request.networks:
        # Nobody asked for it by name: published ports work without a way out, too.
        obstacle = private.obstacle()
        if obstacle is not None:
            network = "none"
            warn(f"the container has no way out, its published ports alone: {obstacle.message}")
    elif ports and network in ("host", "none"):
        warn(f"the published ports are left out: the container's network is {network}")
    connection = Connection(engine, container, request, network)
    if ports and (network == "private" or not request.networks):
        try:
            connection.forward(ports)
        except BaseException:
            connection.close()
            raise
    elif request.networks:
        connection.record()
    return connection


def wanted_ports(request: Networking, exposed: Iterable[str]) -> tuple[PortSpec, ...]:
    """The ports of -p, and with -P all others that the image or --expose names."""
    ports = request.ports
    if request.publish_all:
        from buildkit_py.network.ports import exposed as as_ports

        given = {(p.container, p.protocol) for p in ports}
        more = as_ports({*exposed, *request.expose})
        ports += tuple(p for p in more if (p.container, p.protocol) not in given)
    return ports


def with_gateway(hosts: Pairs, network: str) -> Pairs:
    """--add-host's pairs, ``host-gateway`` replaced by an address of this machine."""
    if not any(address == "host-gateway" for _, address in hosts):
        return hosts
    gateway = "127.0.0.1" if network == "host" else own_address()
    return tuple((name, gateway if address == "host-gateway" else address) for name, address in hosts)


def own_address() -> str:
    """The address by which this machine talks to others. Raises NetworkError where it has none."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        try:
            # A datagram socket sends nothing when it is connected; it learns its route.
            sock.connect(("192.0.2.1", 9))
        except OSError as e:
            raise NetworkError(
                f"host-gateway: this machine has no address that a container could reach: {e.strerror}",
                hint="give the address itself: --add-host NAME:ADDRESS",
            ) from e
        return str(sock.getsockname()[0])
    finally:
        sock.close()


def holder_of(engine: Engine, port: int, protocol: str) -> str:
    """The name of the running container that has a host port, "" where none has."""
    for container in engine.containers.list():
        state: State | None = engine.container_networks.load(container.id)
        if state is None or not container.alive():
            continue
        if any((p.host, p.protocol) == (port, protocol) for p in state.ports):
            return container.name
    return ""
