"""The networks that the user made: a row each. Their bridges exist only while containers are on them
(buildkit_py.network.holder); what is kept is the name, the subnet and the labels.
"""

from __future__ import annotations

import builtins
import ipaddress
import json
import os
import time
from collections.abc import Iterator

from buildkit_py.database import Database
from buildkit_py.errors import NetworkError, NotFoundError
from buildkit_py.network import routes
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_DDL = """
CREATE TABLE IF NOT EXISTS networks (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL, subnet TEXT NOT NULL,
    gateway TEXT NOT NULL, ip_range TEXT NOT NULL, internal INTEGER NOT NULL, labels TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS network_options (id TEXT PRIMARY KEY, options TEXT NOT NULL)
"""

BRIDGE = "bridge"
RESERVED = ("host", "none", "private", "default", "container")
"""Names that mean something else after --network."""
MTU = "com.docker.network.driver.mtu"
_SO_ANYWAY = {
    "com.docker.network.bridge.enable_icc": "true",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
    "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
    "com.docker.network.bridge.gateway_mode_ipv4": "nat",
    "com.docker.network.enable_ipv4": "true",
    "com.docker.network.enable_ipv6": "false",
}
"""Options of docker's bridges that have one value here."""
_POOLS = tuple(
    (ipaddress.IPv4Address(first), ipaddress.IPv4Address(last))
    for first, last in (
        ("10.89.0.0", "10.255.0.0"),
        ("172.17.0.0", "172.32.0.0"),
        ("192.168.0.0", "192.169.0.0"),
    )
)
"""Where subnets are taken from that nobody chose: from the first address, up to the last."""
_BRIDGE_PREFIX = 22
"""As many addresses as the kernel's bridges have ports."""


class Network(NamedTuple):
    id: str
    name: str
    created: float
    subnet: str
    """``10.89.0.0/24``"""
    gateway: str
    ip_range: str
    """The part of the subnet that addresses are given from; "": all of it."""
    internal: bool
    """Without a way out."""
    labels: dict[str, str]
    options: dict[str, str] = {}
    """Docker's, by their long names."""

    def message(self) -> dict[str, Any]:
        """As the holder is told."""
        return {
            "id": self.id,
            "name": self.name,
            "subnet": self.subnet,
            "gateway": self.gateway,
            "ip_range": self.ip_range,
            "internal": self.internal,
            "mtu": int(self.options.get(MTU, 0)),
        }


class NetworkStore:
    """``spread``: any number. Stores with different ones choose different subnets, so that the networks of
    several are not in each other's way on one machine."""

    def __init__(self, db: Database, spread: int = 0) -> None:
        self._db = db
        self._spread = spread
        db.ensure(_DDL)

    def create(
        self,
        name: str,
        *,
        subnet: str = "",
        gateway: str = "",
        ip_range: str = "",
        internal: bool = False,
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> Network:
        """Raises NetworkError for a name that is taken, for addresses that don't fit, and for options."""
        _check_options(options or {})
        with self._db.transaction():
            if name in (*RESERVED, BRIDGE) or self._db.one("SELECT 1 FROM networks WHERE name = ?", (name,)):
                raise NetworkError(f"there is a network {name!r} already")
            subnet, gateway, ip_range = self._addresses(subnet, gateway, ip_range)
            network = Network(
                os.urandom(32).hex(), name, time.time(), subnet, gateway, ip_range, internal, labels or {}
            )._replace(options=options or {})
            self._insert(network)
        return network

    def _insert(self, network: Network) -> None:
        *row, labels, options = network
        self._db.run("INSERT INTO networks VALUES (?,?,?,?,?,?,?,?)", (*row, json.dumps(labels)))
        if options:
            self._db.run("INSERT INTO network_options VALUES (?,?)", (network.id, json.dumps(options)))

    def _addresses(self, subnet: str, gateway: str, ip_range: str) -> tuple[str, str, str]:
        taken = [ipaddress.IPv4Network(n.subnet) for n in self.list()]
        if subnet:
            whole = _subnet(subnet, "--subnet")
            for other in taken:
                if whole.overlaps(other):
                    raise NetworkError(
                        f"the subnet {whole} overlaps {other} of another network",
                        hint="`pybuild network ls --format '{{.Name}} {{.Subnet}}'` lists them",
                    )
        else:
            if gateway or ip_range:
                raise NetworkError("--gateway and --ip-range need a --subnet")
            whole = self._free(taken, 24)
        if whole.num_addresses < 4:
            raise NetworkError(f"the subnet {whole} has no room for a gateway and a container")
        first = _within(gateway, whole, "--gateway") if gateway else whole[1]
        if ip_range:
            part = _subnet(ip_range, "--ip-range")
            if not part.subnet_of(whole):
                raise NetworkError(f"--ip-range {part} is no part of {whole}")
            ip_range = str(part)
        return str(whole), str(first), ip_range

    def _free(self, taken: builtins.list[ipaddress.IPv4Network], prefix: int) -> ipaddress.IPv4Network:
        taken = taken + builtins.list(host_subnets())
        size = 1 << (32 - prefix)
        for pool in _POOLS:
            first, count = int(pool[0]), (int(pool[1]) - int(pool[0])) // size
            for n in range(count):
                network = ipaddress.IPv4Network((first + (self._spread + n) % count * size, prefix))
                if not any(network.overlaps(other) for other in taken):
                    return network
        raise NetworkError("no subnet is free", hint="choose one: --subnet")

    def bridge(self) -> Network:
        """The network that is always there; made when first asked for. Raises NetworkError."""
        try:
            return self.get(BRIDGE)
        except NotFoundError:
            with self._db.transaction():
                if not self._db.one("SELECT 1 FROM networks WHERE name = ?", (BRIDGE,)):
                    taken = [ipaddress.IPv4Network(n.subnet) for n in self.list()]
                    whole = self._free(taken, _BRIDGE_PREFIX)
                    id = os.urandom(32).hex()
                    self._insert(Network(id, BRIDGE, time.time(), str(whole), str(whole[1]), "", False, {}))
            return self.get(BRIDGE)

    def get(self, name: str) -> Network:
        """By name, id or a unique beginning of the id. Raises NotFoundError."""
        networks = self.list()
        found = [n for n in networks if n.name == name] or [
            n for n in networks if len(name) >= 3 and n.id.startswith(name)
        ]
        if len(found) != 1:
            raise NotFoundError(
                f"no such network: {name}" if not found else f"{name} fits several networks",
                hint="`pybuild network ls` shows those that are there; `pybuild network create` makes more"
                if not found
                else "",
            )
        return found[0]

    def list(self) -> list[Network]:
        rows = self._db.all("SELECT * FROM networks LEFT JOIN network_options USING (id) ORDER BY name")
        return [
            Network._make((*row[:6], bool(row[6]), json.loads(row[7]), json.loads(row[8] or "{}")))
            for row in rows
        ]

    def remove(self, network: Network) -> None:
        with self._db.transaction():
            self._db.run("DELETE FROM networks WHERE id = ?", (network.id,))
            self._db.run("DELETE FROM network_options WHERE id = ?", (network.id,))


def _check_options(options: dict[str, str]) -> None:
    for name, value in options.items():
        if name == MTU and value.isdecimal() and 68 <= int(value) <= 65535:
            continue
        if name == MTU:
            raise NetworkError(f"--opt {name}: '{value}' is not a number from 68 to 65535")
        if _SO_ANYWAY.get(name) != value:
            raise NetworkError(
                f"--opt {name}={value} is not done",
                hint=f"{MTU} is, and what is so anyway: leave this one out",
            )


def _subnet(text: str, option: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as e:
        raise NetworkError(f"{option}: {e}", hint="for example 10.90.0.0/24; IPv6 is not supported") from None


def _within(text: str, whole: ipaddress.IPv4Network, option: str) -> Any:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError as e:
        raise NetworkError(f"{option}: {e}") from None
    if address not in whole or address in (whole.network_address, whole.broadcast_address):
        raise NetworkError(f"{option}: {address} is no address of a device on {whole}")
    return address


def host_subnets() -> Iterator[ipaddress.IPv4Network]:
    """What this machine has routes to."""
    return routes.subnets()
