"""What is known of the networks that a container is on: ``network.json`` in its directory.

Written when it starts and when it is connected or disconnected; ``ps``, ``inspect`` and ``port`` read it.
Replaced by rename. That of a container that ended keeps its networks, for its next start, and no ports and
addresses.
"""

from __future__ import annotations

import json
import os

from buildkit_py.request import NetworkSpec
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_FILE = "network.json"


class Published(NamedTuple):
    """A port of a container that is one of this machine's. ``host_ip`` is never empty."""

    container: int
    protocol: str
    host_ip: str
    host: int


class Endpoint(NamedTuple):
    """A container's place on one network."""

    network: str
    network_id: str = ""
    """"" for a private network, which is no one else's."""
    ip: str = ""
    prefix: int = 0
    gateway: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    """Beside the container's name and the beginning of its id."""
    wanted_ip: str = ""
    """What was asked for, and is asked for again at the next start; "": any."""
    wanted_mac: str = ""
    definition: dict[str, Any] | None = None
    """The network, as the holder is told (buildkit_py.network.store.Network.message)."""


class State(NamedTuple):
    mode: str = "host"
    """host, none, private, container:ID, or the name of its first network."""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[Published, ...] = ()
    changed: bool = False
    """It was connected or disconnected: its networks are no longer those that it was made for."""
    hosts: str = ""
    """The text of its /etc/hosts, and so on: what another container on its network gets, too."""
    resolv_conf: str = ""
    hostname: str = ""
    name: str = ""
    """The container's, by which others on its networks know it."""

    def endpoint(self, network: str) -> Endpoint | None:
        return next((e for e in self.endpoints if network in (e.network, e.network_id)), None)

    @property
    def joined(self) -> tuple[Endpoint, ...]:
        """Its places on networks that others may be on, too."""
        return tuple(e for e in self.endpoints if e.network_id)


def save(directory: str, state: State) -> None:
    """Raises OSError."""
    lists = {
        "endpoints": [e._asdict() for e in state.endpoints],
        "ports": [p._asdict() for p in state.ports],
    }
    data = json.dumps({**state._asdict(), **lists}).encode()
    staged = f"{directory}/.{_FILE}.{os.getpid()}"
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    os.rename(staged, f"{directory}/{_FILE}")


def load(directory: str) -> State | None:
    """None for a container that was never on a network but the host's."""
    try:
        with open(f"{directory}/{_FILE}", "rb") as f:
            return _state(json.loads(f.read()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def ended(directory: str) -> None:
    """The container runs no more: it has no ports and no addresses. Raises nothing."""
    state = load(directory)
    if state is not None:
        off = tuple(e._replace(ip="", prefix=0, gateway="", mac="") for e in state.endpoints)
        try:
            save(directory, state._replace(endpoints=off, ports=()))
        except OSError:
            # The container is gone, or the disk is full: whether it runs is told by its lock.
            pass


def specs(directory: str, asked: tuple[NetworkSpec, ...]) -> tuple[NetworkSpec, ...]:
    """What a container's next start asks for: what it was made for, or what it was connected to since."""
    state = load(directory)
    if state is None or not state.changed:
        return asked
    if not state.joined:
        return (NetworkSpec("none"),)
    return tuple(NetworkSpec(e.network, e.aliases, e.wanted_ip, e.wanted_mac) for e in state.joined)


def _state(document: dict[str, Any]) -> State:
    endpoints = (Endpoint(**{**e, "aliases": tuple(e["aliases"])}) for e in document["endpoints"])
    ports = (Published(**p) for p in document["ports"])
    return State(**{**document, "endpoints": tuple(endpoints), "ports": tuple(ports)})
