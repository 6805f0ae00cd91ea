"""``network …``: the user's networks, and which containers are on them."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.engine.networking import (
    BRIDGED,
    bridged,
    endpoint_message,
    endpoints_of,
    happened,
    kind_of,
    network_of,
)
from buildkit_py.errors import NetworkError, NotFoundError, PybuildError
from buildkit_py.network import client, record
from buildkit_py.network.record import Endpoint, State
from buildkit_py.network.store import BRIDGE, Network
from buildkit_py.request import NetworkSpec
from buildkit_py.runtime import events
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.runtime.container import Container

PREDEFINED = ("bridge", "host", "none", "private")


def members(engine: Engine) -> dict[str, list[tuple[Container, Endpoint]]]:
    """The running containers on each network, by its id."""
    found: dict[str, list[tuple[Container, Endpoint]]] = {}
    for container in engine.containers.list():
        state = record.load(container.path)
        if state is not None and container.alive():
            for endpoint in state.joined:
                found.setdefault(endpoint.network_id, []).append((container, endpoint))
    return found


def connect(engine: Engine, network: Network, name: str, spec: NetworkSpec) -> tuple[str, ...]:
    """Put a container on one more network: at once where it runs, else from its next start on.

    What is to be said of it. Raises NetworkError and NotFoundError.
    """
    container = engine.containers.get(name)
    state = _state(engine, container)
    if state.endpoint(network.id):
        raise NetworkError(f"the container {name} is on the network {network.name} already")
    if not container.alive():
        endpoint = Endpoint(
            network.name, network.id, aliases=spec.aliases, wanted_ip=spec.ip, wanted_mac=spec.mac
        )
        # Networks that were removed meanwhile would keep it from starting.
        there = (e for e in state.joined if _find(engine, e.network))
        _save(container, state, (*there, endpoint))
        return ()
    if not state.joined and not state.changed:
        raise NetworkError(
            f"the running container {name} is on no network that others can be on, but on {state.mode}",
            hint=f"stop it, connect it, and start it again; or run it with --network {network.name}",
        )
    told = _ask(engine, "connect", container=container.id, endpoint=endpoint_message(network, spec))
    _save_told(container, state, told, network, spec)
    happened(container.path, "connect", [Endpoint(network.name, network.id)])
    return tuple(told["warnings"])


def disconnect(engine: Engine, network: Network, name: str) -> None:
    """Take a container off a network. Raises NetworkError and NotFoundError."""
    container = engine.containers.get(name)
    state = _state(engine, container)
    if not state.endpoint(network.id):
        raise NetworkError(f"the container {name} is not on the network {network.name}")
    if container.alive():
        told = _ask(engine, "disconnect", container=container.id, network=network.id)
        _save_told(container, state, told, network, NetworkSpec(""))
        happened(container.path, "disconnect", [Endpoint(network.name, network.id)])
    else:
        _save(container, state, tuple(e for e in state.joined if e.network_id != network.id))


def renamed(engine: Engine, container: Container) -> None:
    """Others on the networks of a running container know it by its new name."""
    state = record.load(container.path)
    if state is None or not state.joined or not container.alive():
        return
    record.save(container.path, state._replace(name=container.name))
    _ask(engine, "rename", container=container.id, name=container.name)


def _state(engine: Engine, container: Container) -> State:
    """What is known of a container's networks; of one that never ran, what it was made for."""
    known = record.load(container.path)
    if known is not None:
        return known
    specs = container.config().request.networking.networks
    if kind_of(specs) == "default" and bridged(lambda _: None):
        specs = BRIDGED
    if kind_of(specs) != "networks":
        return State(specs[0].name if specs else "default")
    networks = [(found, spec) for spec in specs if (found := _find(engine, spec.name))]
    return State(
        specs[0].name,
        tuple(
            Endpoint(n.name, n.id, aliases=s.aliases, wanted_ip=s.ip, wanted_mac=s.mac) for n, s in networks
        ),
    )


def _find(engine: Engine, name: str) -> Network | None:
    try:
        return network_of(engine, name)
    except NotFoundError:
        return None


def _ask(engine: Engine, op: str, **fields: Any) -> client.Json:
    link = client.find(engine.root)
    if link is None:
        raise NetworkError("the network holder is gone", hint="start the container again")
    try:
        return link.ask(op, **fields)
    finally:
        link.close()


def _save_told(
    container: Container, state: State, told: client.Json, network: Network, spec: NetworkSpec
) -> None:
    def wanted(id: str) -> tuple[str, str, client.Json]:
        before = state.endpoint(id)
        if before is not None:
            return before.wanted_ip, before.wanted_mac, before.definition or {}
        return spec.ip, spec.mac, network.message()

    _save(container, state, endpoints_of(told, wanted))


def _save(container: Container, state: State, endpoints: tuple[Endpoint, ...]) -> None:
    mode = endpoints[0].network if endpoints else "none"
    record.save(container.path, state._replace(mode=mode, endpoints=endpoints, changed=True))


def remove(engine: Engine, name: str) -> Network:
    """Raises NetworkError for a network with containers on it, and for those that are always there."""
    if name in PREDEFINED:
        raise NetworkError(f"{name} is always there and can't be removed")
    network = engine.networks.get(name)
    on_it = members(engine).get(network.id)
    if on_it:
        names = ", ".join(sorted(container.name for container, _ in on_it))
        raise NetworkError(
            f"the network {network.name} has containers on it: {names}",
            hint=f"stop them, or `pybuild network disconnect {network.name} CONTAINER`",
        )
    engine.networks.remove(network)
    _event(engine, "destroy", network)
    return network


def create(engine: Engine, name: str, **options: Any) -> Network:
    """As NetworkStore.create."""
    network = engine.networks.create(name, **options)
    _event(engine, "create", network)
    return network


def _event(engine: Engine, action: str, network: Network) -> None:
    events.put(engine.root, "network", action, network.id, {"name": network.name, "type": "bridge"})


def unused(engine: Engine) -> list[Network]:
    """The networks that no running container is on."""
    busy = members(engine)
    return [n for n in engine.networks.list() if n.id not in busy and n.name != BRIDGE]


def remove_all(engine: Engine, names: Sequence[str]) -> tuple[list[Network], list[PybuildError]]:
    """Remove as many as can be."""
    removed, failed = [], []
    for name in names:
        try:
            removed.append(remove(engine, name))
        except PybuildError as e:
            failed.append(e)
    return removed, failed


def document(network: Network, on_it: Sequence[tuple[Container, Endpoint]]) -> dict[str, Any]:
    """As ``docker network inspect`` has it."""
    from datetime import UTC, datetime

    address = {"Subnet": network.subnet, "Gateway": network.gateway}
    if network.ip_range:
        address["IPRange"] = network.ip_range
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": datetime.fromtimestamp(network.created, UTC).isoformat().replace("+00:00", "Z"),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": {}, "Config": [address]},
        "Internal": network.internal,
        "Attachable": False,
        "Ingress": False,
        "Containers": {
            container.id: {
                "Name": container.name,
                "MacAddress": endpoint.mac,
                "IPv4Address": f"{endpoint.ip}/{endpoint.prefix}",
                "IPv6Address": "",
            }
            for container, endpoint in on_it
        },
        "Options": network.options,
        "Labels": network.labels,
    }


FIXED = {"host": "host", "none": "null", "private": "private"}
"""Networks that are always there and have no members; their drivers."""


def fixed_id(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def fixed_document(name: str) -> dict[str, Any]:
    """One of FIXED as ``docker network inspect`` has it."""
    network = Network(fixed_id(name), name, 0.0, "", "", "", False, {})
    driver = {"Driver": FIXED[name], "IPAM": {"Driver": "default", "Options": None, "Config": []}}
    return {**document(network, ()), **driver}
