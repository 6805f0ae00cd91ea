"""Links, addresses and routes of a network namespace, by rtnetlink(7).

The messages are pyroute2's; its socket is not taken: that one brings asyncio and everything else of the
package along (140 ms), where making and reading messages takes 25, and all that is asked for here is one
request and its acknowledgement.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from ipaddress import IPv4Network
from types import ModuleType

from buildkit_py.errors import NetworkError
from buildkit_py.linux import syscalls as sc
from buildkit_py.typed import Any

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR = 20
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_DUMP = 0x300
_ERROR, _DONE = 2, 3
_IFF_UP = 1
_SIZE = 1 << 17
_TABLE_MAIN, _PROTOCOL_STATIC, _TYPE_UNICAST = 254, 4, 1
MTU = 65520
"""Between containers; that of slirp4netns and pasta, too, whose own sockets cut to size what they carry."""


def _message(module: str, name: str) -> Any:
    """A message class of pyroute2, without what its package imports by the way."""
    if "pyroute2" not in sys.modules:
        import importlib.util

        spec = importlib.util.find_spec("pyroute2")
        if spec is None or spec.submodule_search_locations is None:
            raise NetworkError("pyroute2 is not installed", hint="pip install pyroute2")
        # An empty package of that name: its submodules are found, its __init__ is not run.
        package = ModuleType("pyroute2")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["pyroute2"] = package
    loaded = __import__(f"pyroute2.netlink.rtnl.{module}", fromlist=[name])
    return getattr(loaded, name)


class Netlink:
    """A socket to one network namespace: this thread's, where no descriptor of one is given.

    The calling thread visits a given namespace for a moment, so it must be able to come back: both belong to
    its user namespace. Raises NetworkError for what the kernel refuses, SandboxError for the visit.
    """

    def __init__(self, namespace: int = -1) -> None:
        if namespace < 0:
            self._sock = self._open()
            return
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            sc.setns(namespace, sc.CLONE_NEWNET)
            try:
                self._sock = self._open()
            finally:
                sc.setns(home, sc.CLONE_NEWNET)
        finally:
            os.close(home)

    @staticmethod
    def _open() -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        sock.bind((0, 0))
        return sock

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_bridge(self, name: str, mtu: int = 0) -> None:
        """``mtu``: 0 for the largest."""
        info = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
        self._link(
            f"add bridge {name}", [("IFLA_IFNAME", name), ("IFLA_MTU", mtu or MTU), ("IFLA_LINKINFO", info)]
        )

    def add_pair(self, name: str, peer: str, namespace: int, mac: str, mtu: int = 0) -> None:
        """A pair of virtual devices, ``peer`` in another namespace (a descriptor), with an address there."""
        mtu = mtu or MTU
        inner = [("IFLA_IFNAME", peer), ("IFLA_MTU", mtu), ("IFLA_NET_NS_FD", namespace)]
        if mac:
            inner.append(("IFLA_ADDRESS", mac))
        data = {"attrs": [("VETH_INFO_PEER", {"attrs": inner})]}
        info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
        self._link(f"add veth {name}", [("IFLA_IFNAME", name), ("IFLA_MTU", mtu), ("IFLA_LINKINFO", info)])

    def index(self, name: str) -> int:
        """A device's number; 0 where there is none of that name."""
        try:
            return int(self._device(name)["index"])
        except NetworkError as e:
            if isinstance(e.__cause__, OSError) and e.__cause__.errno == errno.ENODEV:
                return 0
            raise

    def mtu(self, name: str) -> int:
        """The largest packet that a device takes, in bytes."""
        return int(self._device(name).get_attr("IFLA_MTU"))

    def _device(self, name: str) -> Any:
        message = _message("ifinfmsg", "ifinfmsg")()
        message["attrs"] = [("IFLA_IFNAME", name)]
        found = _message("ifinfmsg", "ifinfmsg")(self._ask(message, _RTM_GETLINK, 0, f"look for {name}"))
        found.decode()
        return found

    def links(self) -> list[str]:
        """The names of all devices."""
        result = []
        for data in self._dump(_message("ifinfmsg", "ifinfmsg")(), _RTM_GETLINK, "list devices"):
            found = _message("ifinfmsg", "ifinfmsg")(data)
            found.decode()
            result.append(str(found.get_attr("IFLA_IFNAME")))
        return result

    def set_up(self, name: str, *, bridge: str = "") -> None:
        """Set a device up, as a port of a bridge where that is given."""
        message = _message("ifinfmsg", "ifinfmsg")()
        message["index"] = self.index(name)
        message["flags"] = message["change"] = _IFF_UP
        if bridge:
            message["attrs"] = [("IFLA_MASTER", self.index(bridge))]
        self._ask(message, _RTM_NEWLINK, _ACK, f"set {name} up")

    def remove(self, name: str) -> None:
        """Remove a device; a pair goes as a whole. One that is gone already is well."""
        index = self.index(name)
        if not index:
            return
        message = _message("ifinfmsg", "ifinfmsg")()
        message["index"] = index
        try:
            self._ask(message, _RTM_DELLINK, _ACK, f"remove {name}")
        except NetworkError as e:
            if not (isinstance(e.__cause__, OSError) and e.__cause__.errno == errno.ENODEV):
                raise

    def add_address(self, name: str, address: str, prefix: int) -> None:
        message = _message("ifaddrmsg", "ifaddrmsg")()
        message["family"] = socket.AF_INET
        message["prefixlen"] = prefix
        message["index"] = self.index(name)
        message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
        self._ask(message, _RTM_NEWADDR, _ACK | _CREATE | _EXCL, f"give {name} the address {address}")

    def add_default_route(self, gateway: str, mtu: int = 0) -> None:
        """``mtu``: the largest packet that goes that way; 0: as large as the device's."""
        metrics = [("RTA_METRICS", {"attrs": [("RTAX_MTU", mtu)]})] if mtu else []
        self._route(_RTM_NEWROUTE, None, gateway, *metrics)

    def remove_default_route(self, gateway: str) -> None:
        self._route(_RTM_DELROUTE, None, gateway)

    def add_route(self, subnet: IPv4Network, gateway: str) -> None:
        self._route(_RTM_NEWROUTE, subnet, gateway)

    def remove_route(self, subnet: IPv4Network, gateway: str) -> None:
        self._route(_RTM_DELROUTE, subnet, gateway)

    def _route(self, kind: int, subnet: IPv4Network | None, gateway: str, *more: tuple[str, Any]) -> None:
        message = _message("rtmsg", "rtmsg")()
        message["family"] = socket.AF_INET
        message["table"] = _TABLE_MAIN
        message["proto"] = _PROTOCOL_STATIC
        message["type"] = _TYPE_UNICAST
        message["scope"] = 0
        to = []
        if subnet is not None:
            message["dst_len"] = subnet.prefixlen
            to = [("RTA_DST", str(subnet.network_address))]
        message["attrs"] = [*to, ("RTA_GATEWAY", gateway), *more]
        flags = _CREATE | _EXCL if kind == _RTM_NEWROUTE else 0
        self._ask(message, kind, _ACK | flags, f"route {subnet or 'all'} by {gateway}")

    def _link(self, what: str, attributes: list[tuple[str, Any]]) -> None:
        message = _message("ifinfmsg", "ifinfmsg")()
        message["attrs"] = attributes
        self._ask(message, _RTM_NEWLINK, _ACK | _CREATE | _EXCL, what)

    def _send(self, message: Any, kind: int, flags: int) -> None:
        message["header"]["type"] = kind
        message["header"]["flags"] = _REQUEST | flags
        message["header"]["sequence_number"] = 1
        message.encode()
        self._sock.sendto(bytes(message.data), (0, 0))

    def _ask(self, message: Any, kind: int, flags: int, what: str) -> bytes:
        self._send(message, kind, flags)
        answer = self._sock.recv(_SIZE)
        if struct.unpack_from("=H", answer, 4)[0] == _ERROR:
            number = -struct.unpack_from("=i", answer, 16)[0]
            if number:
                cause = OSError(number, os.strerror(number))
                raise NetworkError(f"cannot {what}: {cause.strerror}") from cause
        return answer

    def _dump(self, message: Any, kind: int, what: str) -> list[bytes]:
        self._send(message, kind, _DUMP)
        found: list[bytes] = []
        while True:
            data = self._sock.recv(_SIZE)
            while data:
                length, answer = struct.unpack_from("=IH", data)
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    raise NetworkError(f"cannot {what}")
                found.append(data[:length])
                data = data[(length + 3) & ~3 :]
