"""The networks that the user made: a row each. Their bridges exist only while containers are on them
(buildkit_py.network.holder); what is kept is the name, the subnet and the labels.
"""

# Annotations are not postponed here: typing would compile every one of them when it makes the tuples.

import ipaddress
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from buildkit_py.database import Database
from buildkit_py.errors import NetworkError, NotFoundError
from buildkit_py.tuples import NamedTuple

_DDL = """
CREATE TABLE IF NOT EXISTS networks (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL, subnet TEXT NOT NULL,
    gateway TEXT NOT NULL, ip_range TEXT NOT NULL, internal INTEGER NOT NULL, labels TEXT NOT NULL
)
"""

BRIDGE = "bridge"
RESERVED = ("host", "none", "private", "default", "container")
"""Names that mean something else after --network."""
_FIRST, _LAST = (10 << 24) + (89 << 16), (10 << 24) + (255 << 16)
"""Where subnets are taken from that nobody chose: 10.89.0.0/24 and up."""
_BRIDGE_SUBNET = "10.88.0.0/16"


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

    def message(self) -> dict[str, Any]:
        """As the holder is told."""
        return {
            "id": self.id,
            "name": self.name,
            "subnet": self.subnet,
            "gateway": self.gateway,
            "ip_range": self.ip_range,
            "internal": self.internal,
        }


class NetworkStore:
    def __init__(self, db: Database) -> None:
        self._db = db
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
    ) -> Network:
        """Raises NetworkError for a name that is taken, and for addresses that don't fit."""
        with self._db.transaction():
            if name in (*RESERVED, BRIDGE) or self._db.one("SELECT 1 FROM networks WHERE name = ?", (name,)):
                raise NetworkError(f"there is a network {name!r} already")
            subnet, gateway, ip_range = self._addresses(subnet, gateway, ip_range)
            network = Network(
                os.urandom(32).hex(), name, time.time(), subnet, gateway, ip_range, internal, labels or {}
            )
            self._insert(network)
        return network

    def _insert(self, network: Network) -> None:
        row = network._replace(labels=json.dumps(network.labels))  # type: ignore[arg-type]
        self._db.run("INSERT INTO networks VALUES (?,?,?,?,?,?,?,?)", row)

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
            whole = _free(taken + list(host_subnets()))
        if whole.num_addresses < 4:
            raise NetworkError(f"the subnet {whole} has no room for a gateway and a container")
        first = _within(gateway, whole, "--gateway") if gateway else whole[1]
        if ip_range:
            part = _subnet(ip_range, "--ip-range")
            if not part.subnet_of(whole):
                raise NetworkError(f"--ip-range {part} is no part of {whole}")
            ip_range = str(part)
        return str(whole), str(first), ip_range

    def bridge(self) -> Network:
        """The network that is always there; made when first asked for."""
        try:
            return self.get(BRIDGE)
        except NotFoundError:
            whole = ipaddress.IPv4Network(_BRIDGE_SUBNET)
            if any(whole.overlaps(other) for other in host_subnets()):
                whole = _free([ipaddress.IPv4Network(n.subnet) for n in self.list()] + list(host_subnets()))
            try:
                network = Network(
                    os.urandom(32).hex(), BRIDGE, time.time(), str(whole), str(whole[1]), "", False, {}
                )
                with self._db.transaction():
                    if not self._db.one("SELECT 1 FROM networks WHERE name = ?", (BRIDGE,)):
                        self._insert(network)
            finally:
                pass
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
                hint=f"`pybuild network create {name}` makes it" if not found else "",
            )
        return found[0]

    def list(self) -> list[Network]:
        rows = self._db.all("SELECT * FROM networks ORDER BY name")
        return [Network._make((*row[:6], bool(row[6]), json.loads(row[7]))) for row in rows]

    def remove(self, network: Network) -> None:
        self._db.run("DELETE FROM networks WHERE id = ?", (network.id,))


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


def _free(taken: list[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    for base in range(_FIRST, _LAST, 256):
        network = ipaddress.IPv4Network((base, 24))
        if not any(network.overlaps(other) for other in taken):
            return network
    raise NetworkError("no subnet is free", hint="choose one: --subnet")


def host_subnets() -> Iterator[ipaddress.IPv4Network]:
    """What this machine has routes to (proc(5), /proc/net/route), the default route aside."""
    try:
        with open("/proc/self/net/route") as f:
            lines = f.read().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        mask = bin(_little(fields[7])).count("1")
        if mask:
            yield ipaddress.IPv4Network((_little(fields[1]), mask), strict=False)


def _little(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")
