"""A network that containers are on, as its holder knows it: who has which address."""

from __future__ import annotations

from buildkit_py.errors import NetworkError
from buildkit_py.typed import Any


class Place:
    """A container's place on one network."""

    def __init__(self, device: str, peer: str, ip: str, mac: str, aliases: tuple[str, ...]) -> None:
        self.device = device
        """In R."""
        self.peer = peer
        """In the container."""
        self.ip = ip
        self.mac = mac
        self.aliases = aliases


class Bridge:
    """A network that containers are on."""

    def __init__(self, network: dict[str, Any]) -> None:
        import ipaddress

        self.id: str = network["id"]
        self.name: str = network["name"]
        self.device = f"pb{self.id[:10]}"
        self.gateway: str = network["gateway"]
        self.internal: bool = network["internal"]
        self.mtu: int = network.get("mtu", 0)
        """0: the largest."""
        self.subnet = ipaddress.IPv4Network(network["subnet"])
        self._range = ipaddress.IPv4Network(network["ip_range"] or network["subnet"])
        self._last = int(self._range[0])
        self.used: set[str] = set()
        """The addresses that containers have."""

    def take(self, wanted: str) -> str:
        """An address for a container. Raises NetworkError."""
        ip = self._wanted(wanted) if wanted else self._next()
        self.used.add(ip)
        return ip

    def _wanted(self, wanted: str) -> str:
        import ipaddress

        address = ipaddress.ip_address(wanted)
        ends = (self.subnet.network_address, self.subnet.broadcast_address)
        if address not in self.subnet or address in ends or str(address) == self.gateway:
            raise NetworkError(
                f"{wanted} can't be a container's address on {self.name}, which is {self.subnet}"
            )
        if wanted in self.used:
            raise NetworkError(f"{wanted} is taken on the network {self.name}")
        return wanted

    def _next(self) -> str:
        """The one after that given last, so that an address isn't another's at once."""
        import ipaddress

        first, count = int(self._range[0]), self._range.num_addresses
        ends = (int(self.subnet[0]), int(self.subnet[-1]))
        for step in range(1, count + 1):
            number = first + (self._last - first + step) % count
            text = str(ipaddress.IPv4Address(number))
            if number not in ends and text != self.gateway and text not in self.used:
                self._last = number
                return text
        raise NetworkError(f"the network {self.name} has no free address: {self._range} is full")
