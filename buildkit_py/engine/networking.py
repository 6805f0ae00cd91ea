"""A container's network, from what was asked for to what its sandbox gets.

home      in the command, before it enters a namespace: the user namespace to be in
connect   in the supervisor, before each start: a namespace, addresses, listening sockets
fit       the sandbox's spec
close     the container ended
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from buildkit_py.errors import NetworkError, NotFoundError, PybuildError, UsageError
from buildkit_py.linux import smallfiles
from buildkit_py.network import private, record, told
from buildkit_py.network.resolv import (
    given_resolv_text,
    host_hosts,
    hosts_text,
    names_resolv,
    resolv_text,
    with_gateway,
)
from buildkit_py.request import NetworkSpec
from buildkit_py.runtime import events
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.typed import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.network.client import Json, Link
    from buildkit_py.network.forward import Forwarder
    from buildkit_py.network.lease import Reserved
    from buildkit_py.network.ports import Listener
    from buildkit_py.network.record import State
    from buildkit_py.network.store import Network
    from buildkit_py.request import Networking, Pairs, PortSpec
    from buildkit_py.runtime.container import Container

Warn = Callable[[str], None]
Alone = Literal["host", "none", "private"]
ALONE: tuple[Alone, ...] = ("host", "none", "private")
BRIDGED = (NetworkSpec("bridge"),)


def kind_of(specs: tuple[NetworkSpec, ...]) -> str:
    """default, host, none, private, container, or networks: with others, by the network holder."""
    first = specs[0] if specs else None
    if first is None or (first.name in ("", "default") and not (first.ip or first.aliases or first.mac)):
        return "default"
    if first.name.startswith("container:"):
        return "container"
    return first.name if first.name in ALONE else "networks"


def bridged(warn: Warn) -> bool:
    """Whether a container is on the network bridge where nothing is said: those of root are, where the host
    can be connected with its networks."""
    from buildkit_py.linux import userns

    if userns.present().mode != "root":
        return False
    from buildkit_py.linux.forwarding import pair_obstacle

    obstacle = pair_obstacle()
    if obstacle:
        warn(f"the network bridge is not the default here: {obstacle}")
    return not obstacle


def warn_once(root: str, warn: Warn) -> Warn:
    """Warnings that are given once a store."""

    def once(text: str) -> None:
        if told.once(os.path.join(root, "network"), text):
            warn(text)

    return once


def check(engine: Engine, asked: Networking) -> None:
    """Raises NotFoundError for a network or container that isn't there, UsageError for what doesn't fit."""
    specs = asked.networks
    kind = kind_of(specs)
    if kind == "container":
        first = specs[0]
        given = {
            "--publish": asked.ports or asked.publish_all,
            "--expose": asked.expose,
            "--hostname": asked.hostname,
            "--add-host": asked.extra_hosts,
            "--dns": asked.dns,
            "--dns-search": asked.dns_search,
            "--dns-option": asked.dns_options,
            "--ip": first.ip,
            "--mac-address": first.mac,
            "--network-alias": first.aliases,
        }
        for option in (option for option, value in given.items() if value):
            raise UsageError(
                f"{option}: a container on another's network has that one's addresses, ports and names",
                hint=f"give {option} to the other one",
            )
    if kind in ALONE and (specs[0].ip or specs[0].aliases or specs[0].mac):
        raise UsageError(
            f"--ip, --mac-address and --network-alias need a network of yours, not {kind}",
            hint="make one by `pybuild network create NAME`",
        )
    if kind == "container":
        engine.containers.get(specs[0].name.removeprefix("container:"))
    if kind == "networks":
        for spec in specs:
            network_of(engine, spec.name)


def network_of(engine: Engine, name: str) -> Network:
    """One that containers can be on beside others. Raises NotFoundError and NetworkError."""
    if name in ALONE:
        raise NetworkError(f"a container can't be on the network {name} beside others")
    if name in ("", "default", "bridge"):
        return engine.networks.bridge()
    return engine.networks.get(name)


class Home:
    """The user namespace that a container has to be in, for the sake of those that it meets on networks."""

    def __init__(self, join: int, link: Link | None = None) -> None:
        self.join = join
        """A descriptor of it."""
        self._link = link

    def close(self) -> None:
        """To be called when the container's supervisor has answered: until then the holder has to stay."""
        if self._link is not None:
            self._link.close()
        else:
            os.close(self.join)


def home(root: str, wanted: Iterable[tuple[NetworkSpec, ...]]) -> Home | None:
    """The one that all of these containers of a store can be in; None where each may have one of its own.

    Starts the network holder. Only in a process with one thread, before it enters a namespace and opens the
    index. Raises NetworkError.
    """
    kinds = {(kind_of(specs), specs[0].name if kind_of(specs) == "container" else "") for specs in wanted}
    kinds = {kind for kind in kinds if kind[0] in ("networks", "container")}
    if not kinds:
        return None
    if len(kinds) > 1:
        raise NetworkError("these containers can't be started at once", hint="start one after the other")
    ((kind, name),) = kinds
    if kind == "networks":
        from buildkit_py.network.client import open_link

        link = open_link(root)
        return Home(link.user, link)
    pid = _process_of(find_containers(root, [name.removeprefix("container:")])[0], name)
    return Home(_open_namespace(pid, "user", name)) if pid else None


def beside(root: str, home: Home | None, names: Sequence[str]) -> Home | None:
    """The user namespace of these containers too, whose other namespaces are shared; ``home``: as of home().

    Raises NotFoundError and NetworkError.
    """
    for name, container in zip(names, find_containers(root, names), strict=True):
        join = _open_namespace(process_of(container, name), "user", name)
        if home is None:
            home = Home(join)
            continue
        same = os.fstat(home.join).st_ino == os.fstat(join).st_ino
        os.close(join)
        if not same:
            raise NetworkError(
                f"the container {name} is in another user namespace than those on the networks",
                hint="put them on the same network, or share one container's namespaces alone",
            )
    return home


def process_of(container: Container | None, name: str) -> int:
    """The first process of a container that runs. Raises NotFoundError and NetworkError."""
    if container is None:
        raise NotFoundError(f"no such container: {name}")
    state = container.state()
    if not state.live or not state.pid:
        raise NetworkError(
            f"the container {container.name} does not run", hint=f"`pybuild start {container.name}`"
        )
    return state.pid


def find_containers(root: str, names: Iterable[str]) -> list[Container | None]:
    """Look containers up before a fork."""
    from buildkit_py.runtime.container import ContainerStore

    with ContainerStore.opened(root) as store:
        return [store.find(name) for name in names]


def _process_of(container: Container | None, name: str) -> int:
    """The first process of ``container:NAME``; 0 where it is on the host's network.

    Raises NotFoundError and NetworkError.
    """
    pid = process_of(container, name.removeprefix("container:"))
    assert container is not None
    known = record.load(container.path)
    return 0 if known is None or known.mode == "host" else pid


def _open_namespace(pid: int, kind: str, name: str) -> int:
    try:
        return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise NetworkError(f"cannot enter the container {name}: {e.strerror}") from e


class Connection:
    """The network of one container. To be closed when it has ended."""

    def __init__(self, directory: str, request: Networking, changed: bool) -> None:
        self._directory = directory
        self._request = request
        self._forwarder: Forwarder | None = None
        self._own = -1
        self._network: Alone = "host"
        self._resolv = ""
        self._named = False
        """Whether the name server in the container's namespace serves it."""
        self._other: State | None = None
        self._addresses: tuple[str, ...] = ()
        self._state = record.State(changed=changed)

    @property
    def namespace(self) -> int:
        """The namespace that was made for the container; -1: its sandbox makes one, or shares ours."""
        if self._own >= 0:
            return self._own
        return self._forwarder.namespace if self._forwarder is not None else -1

    def alone(self, network: Alone, listeners: tuple[Listener, ...] = ()) -> None:
        """A network that is nobody else's; in a new namespace with a forwarder where ports are published."""
        self._network = network
        self._resolv = resolv_text(network)
        if listeners:
            from buildkit_py.network import forward

            self._forwarder = forward.start(listeners)
        endpoints = (record.Endpoint("private"),) if network == "private" else ()
        ports = tuple(listener.port for listener in listeners)
        self._state = self._state._replace(mode=network, endpoints=endpoints, ports=ports)

    def on_networks(
        self,
        wanted: list[tuple[Network, NetworkSpec]],
        root: str,
        container: tuple[str, str],
        link: Link,
        listeners: tuple[Listener, ...],
        warn: Warn,
        reserved: Reserved | None = None,
    ) -> None:
        """A place on each of these networks, for a container (its id and name). ``link`` is taken over; it
        may be that of a reserved place."""
        from buildkit_py.network import forward, names, namespace
        from buildkit_py.network.lease import Lease

        try:
            self._own = reserved.namespace if reserved is not None else namespace.create()
            lease = Lease(root, link, self._directory, container, self._own, self._request.dns)
            if reserved is not None:
                answer = lease.take(reserved)
            else:
                answer = lease.attach([endpoint_message(network, spec) for network, spec in wanted])
            for text in answer["warnings"]:
                warn(text)
            asked = {n.id: (s.ip, s.mac, n.message()) for n, s in wanted}
            endpoints = endpoints_of(answer, lambda id: asked[id])
            self._addresses = tuple(e.ip for e in endpoints)
            self._network, self._named = "none", True
            self._resolv = names_resolv(names.ADDRESS)
            self._forwarder = forward.start(listeners, link.namespace, self._addresses[0], lease)
        except BaseException:
            link.close()
            raise
        ports = tuple(listener.port for listener in listeners)
        self._state = self._state._replace(
            mode=endpoints[0].network, endpoints=endpoints, ports=ports, name=container[1]
        )
        happened(self._directory, "connect", endpoints)

    def shared(self, engine: Engine, name: str) -> None:
        """The network of another container, with the names that it has there. Raises NetworkError."""
        container = engine.containers.get(name.removeprefix("container:"))
        pid = _process_of(container, name)
        if not pid:
            self.alone("host")
            return
        self._own = _open_namespace(pid, "net", name)
        self._network = "none"
        self._other = record.load(container.path)
        self._state = self._state._replace(mode=f"container:{container.id}")

    def fit(self, spec: SandboxSpec) -> SandboxSpec:
        """The sandbox's spec with its network and the names that it finds there."""
        request, other = self._request, self._other
        if other is not None:
            hosts, resolv, hostname = other.hosts, other.resolv_conf, other.hostname
        else:
            resolv, hostname = self._resolv, spec.hostname
            if request.dns or request.dns_search or request.dns_options:
                # On networks the name server in the container's namespace asks those of --dns.
                servers = () if self._named else request.dns
                resolv = given_resolv_text(resolv, servers, request.dns_search, request.dns_options)
            extra = with_gateway(request.extra_hosts, shared=self._network == "host")
            beginning = {"text": host_hosts()} if self._network == "host" else {}
            hosts = hosts_text(
                hostname, extra, addresses=self._addresses, domain=request.domainname, **beginning
            )
        self._state = self._state._replace(hosts=hosts, resolv_conf=resolv, hostname=hostname)
        if self._state.mode != "host":
            record.save(self._directory, self._state)
        own = self._network != "host" and not self._state.mode.startswith("container:")
        return spec._replace(
            network=self._network,
            sysctls=(*open_to_all(), *spec.sysctls) if own else spec.sysctls,
            hostname=hostname,
            domainname=request.domainname,
            hosts=hosts,
            resolv_conf=resolv,
            hostname_file=f"{hostname}\n",
        )

    def close(self) -> None:
        """Give ports and addresses back. Safe to call twice."""
        if self._state.joined:
            state = record.load(self._directory) or self._state
            happened(self._directory, "disconnect", state.joined)
            self._state = record.State()
        if self._forwarder is not None:
            self._forwarder.close()
            self._forwarder = None
        if self._own >= 0:
            os.close(self._own)
            self._own = -1


class Networks:
    """A supervisor's part: the connections of one container, one for each start."""

    def __init__(self, root: str, engine: Callable[[], Engine]) -> None:
        self._root = root
        self._engine = engine
        self._link: Link | None = None
        """Kept between two starts, so that the container finds the same holder again."""
        self._reserved: tuple[Network, Reserved] | None = None
        """A place on the network bridge."""

    def foresee(self) -> None:
        """Get a place on the network bridge for a container that will most likely be there, while the command
        looks its image up and makes it."""
        try:
            if bridged(lambda _: None):
                from buildkit_py.network import forward, names  # noqa: F401
                from buildkit_py.network.client import open_link
                from buildkit_py.network.lease import Reserved

                bridge = self._engine().networks.bridge()
                self._link = open_link(self._root)
                self._reserved = (bridge, Reserved(self._root, bridge.message()))
        except PybuildError:
            # It will be told where it matters.
            pass

    def connect(
        self,
        directory: str,
        container: tuple[str, str],
        request: Networking,
        exposed: Iterable[str],
        warn: Warn,
    ) -> Connection:
        """Connect a container (its id and name) that is about to start; ``exposed`` is its image's EXPOSE.

        Only in a process with one thread. Raises NetworkError, NotFoundError and UsageError.
        """
        specs = record.specs(directory, request.networks)
        connection = Connection(directory, request, specs != request.networks)
        ports = wanted_ports(request, exposed)
        kind = kind_of(specs)
        try:
            if kind == "default" and (self._reserved or bridged(warn_once(self._root, warn))):
                specs, kind = BRIDGED, "networks"
            elif self._reserved is not None:
                self._reserved[1].close()
                self._reserved = None
            if kind == "default":
                self._by_default(connection, ports, warn)
            elif kind == "private":
                connection.alone("private", self._listen(ports))
            elif kind == "container":
                connection.shared(self._engine(), specs[0].name)
            elif kind == "networks":
                listeners = self._listen(ports)
                taken, self._reserved = self._reserved, None
                reserved = None
                if taken is not None and specs is BRIDGED and taken[1].link.holds():
                    bridge, reserved = taken
                    wanted, link = [(bridge, specs[0])], reserved.link
                else:
                    if taken is not None:
                        taken[1].close()
                    wanted = [(network_of(self._engine(), spec.name), spec) for spec in specs]
                    link = self._new_link()
                connection.on_networks(wanted, self._root, container, link, listeners, warn, reserved)
            else:
                if ports:
                    warn(f"the published ports are left out: the container's network is {kind}")
                connection.alone("none" if kind == "none" else "host")
        except BaseException:
            connection.close()
            raise
        return connection

    def _new_link(self) -> Link:
        from buildkit_py.network.client import open_link

        if self._link is None or not self._link.holds():
            kept = self._link
            self._link = open_link(self._root, kept.namespace if kept is not None else -1)
            if kept is not None:
                kept.close()
        return open_link(self._root)

    def _listen(self, ports: tuple[PortSpec, ...]) -> tuple[Listener, ...]:
        if not ports:
            return ()
        from buildkit_py.network.ports import listen

        return listen(ports, lambda port, protocol: holder_of(self._engine(), port, protocol))

    def _by_default(self, connection: Connection, ports: tuple[PortSpec, ...], warn: Warn) -> None:
        """A private network where the machine can make one. Where not, published ports work without a way
        out; without any the container shares the host's network, which is said once a store."""
        obstacle = private.obstacle()
        if obstacle is None:
            connection.alone("private", self._listen(ports))
        elif ports:
            warn(f"the container has no way out, its published ports alone: {obstacle.message}")
            connection.alone("none", self._listen(ports))
        else:
            warn_once(self._root, warn)(
                f"containers share the host's network here: {obstacle.message} ({obstacle.hint})"
            )
            connection.alone("host")


def open_to_all() -> Pairs:
    """Docker's settings of a container's own network: all its users may open ports below 1024, and ping."""
    groups = [list(map(int, line.split())) for line in smallfiles.read("/proc/self/gid_map").splitlines()]
    last = max(first + count for first, _, count in groups) - 1
    return (
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", f"0 {min(last, (1 << 31) - 1)}"),
    )


def happened(directory: str, action: str, endpoints: Iterable[record.Endpoint]) -> None:
    """Events: the container in ``directory`` came to networks, or left them."""
    root, container = os.path.dirname(os.path.dirname(directory)), os.path.basename(directory)
    for endpoint in endpoints:
        attributes = {"container": container, "name": endpoint.network, "type": "bridge"}
        events.put(root, "network", action, endpoint.network_id, attributes)


def endpoint_message(network: Network, spec: NetworkSpec) -> dict[str, object]:
    """A network and a container's place on it as the holder is told."""
    return {
        "network": network.message(),
        "aliases": list(spec.aliases),
        "ip": spec.ip,
        "mac": spec.mac,
    }


def endpoints_of(told: Json, wanted: Callable[[str], tuple[str, str, Json]]) -> tuple[record.Endpoint, ...]:
    """A container's places, from the holder's answer; ``wanted`` gives for a network's id the address and the
    hardware address that were asked for, and the network as the holder is told."""
    result = []
    for place in told["endpoints"]:
        ip, mac, definition = wanted(place["network_id"])
        place["aliases"] = tuple(place["aliases"])
        result.append(record.Endpoint(**place, wanted_ip=ip, wanted_mac=mac, definition=definition))
    return tuple(result)


def wanted_ports(request: Networking, exposed: Iterable[str]) -> tuple[PortSpec, ...]:
    """The ports of -p, and with -P all others that the image or --expose names."""
    ports = request.ports
    if request.publish_all:
        from buildkit_py.network.ports import exposed as as_ports

        given = {(p.container, p.protocol) for p in ports}
        more = as_ports({*exposed, *request.expose})
        ports += tuple(p for p in more if (p.container, p.protocol) not in given)
    return ports


def holder_of(engine: Engine, port: int, protocol: str) -> str:
    """The name of the running container that has a host port, "" where none has."""
    for container in engine.containers.list():
        state = record.load(container.path)
        if state is None or not container.alive():
            continue
        if any((p.host, p.protocol) == (port, protocol) for p in state.ports):
            return container.name
    return ""
