"""Links, addresses and routes of a network namespace, by rtnetlink(7).

The messages are put together here: all that is asked for is one request and its acknowledgement, and
pyroute2 takes 25 ms to load its messages alone, for which every first container would wait.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from ipaddress import IPv4Network

from buildkit_py.errors import NetworkError
from buildkit_py.linux import syscalls as sc

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR = 20
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_ERROR, _DONE = 2, 3
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_GATEWAY, _RTA_METRICS, _RTAX_MTU = 1, 5, 8, 2
_TABLE_MAIN, _PROTOCOL_STATIC, _TYPE_UNICAST = 254, 4, 1
_HEADER, _ATTRIBUTE = 16, 4
"""Bytes before the body of a message, and before the value of an attribute."""
_LINK = 16
"""Bytes of struct ifinfomsg."""
_IFF_UP = 1
_SIZE = 1 << 17
MTU = 65520
"""Between containers; that of slirp4netns and pasta, too, whose own sockets cut to size what they carry."""

Value = bytes | str | int


def _attributes(*pairs: tuple[int, Value]) -> bytes:
    """Attributes of a message, or of another attribute; a number has 32 bits, a text ends with a zero."""
    result = b""
    for kind, value in pairs:
        if isinstance(value, int):
            value = struct.pack("=I", value)
        elif isinstance(value, str):
            value = value.encode() + b"\0"
        result += struct.pack("=HH", _ATTRIBUTE + len(value), kind) + value + bytes(-len(value) % 4)
    return result


def _read(data: bytes) -> dict[int, bytes]:
    """The attributes in a message's body."""
    found = {}
    while len(data) >= _ATTRIBUTE:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[_ATTRIBUTE:length]
        data = data[(length + 3) & ~3 :]
    return found


def _link(*pairs: tuple[int, Value], index: int = 0, flags: int = 0) -> bytes:
    """struct ifinfomsg, and attributes; ``flags`` are set."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags) + _attributes(*pairs)


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

    def add_bridge(self, name: str) -> None:
        info = _attributes((_INFO_KIND, "bridge"))
        body = _link((_IFLA_IFNAME, name), (_IFLA_MTU, MTU), (_IFLA_LINKINFO, info))
        self._ask(_RTM_NEWLINK, _ACK | _CREATE | _EXCL, body, f"add bridge {name}")

    def add_pair(self, name: str, peer: str, namespace: int, mac: str) -> None:
        """A pair of virtual devices, ``peer`` in another namespace (a descriptor), with an address there."""
        inner: list[tuple[int, Value]] = [
            (_IFLA_IFNAME, peer),
            (_IFLA_MTU, MTU),
            (_IFLA_NET_NS_FD, namespace),
        ]
        if mac:
            inner.append((_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))))
        data = _attributes((_VETH_INFO_PEER, _link(*inner)))
        info = _attributes((_INFO_KIND, "veth"), (_INFO_DATA, data))
        body = _link((_IFLA_IFNAME, name), (_IFLA_MTU, MTU), (_IFLA_LINKINFO, info))
        self._ask(_RTM_NEWLINK, _ACK | _CREATE | _EXCL, body, f"add veth {name}")

    def index(self, name: str) -> int:
        """A device's number; 0 where there is none of that name."""
        try:
            answer = self._ask(_RTM_GETLINK, 0, _link((_IFLA_IFNAME, name)), f"look for {name}")
        except NetworkError as e:
            if isinstance(e.__cause__, OSError) and e.__cause__.errno == errno.ENODEV:
                return 0
            raise
        return int(struct.unpack_from("=i", answer, _HEADER + 4)[0])

    def mtu(self, name: str) -> int:
        """The largest packet that a device takes, in bytes."""
        answer = self._ask(_RTM_GETLINK, 0, _link((_IFLA_IFNAME, name)), f"look for {name}")
        return int.from_bytes(_read(answer[_HEADER + _LINK :])[_IFLA_MTU], "little")

    def links(self) -> list[str]:
        """The names of all devices."""
        answers = self._dump(_RTM_GETLINK, _link(), "list devices")
        return [_read(answer[_HEADER + _LINK :])[_IFLA_IFNAME].rstrip(b"\0").decode() for answer in answers]

    def set_up(self, name: str, *, bridge: str = "") -> None:
        """Set a device up, as a port of a bridge where that is given."""
        master = [(_IFLA_MASTER, self.index(bridge))] if bridge else []
        body = _link(*master, index=self.index(name), flags=_IFF_UP)
        self._ask(_RTM_NEWLINK, _ACK, body, f"set {name} up")

    def remove(self, name: str) -> None:
        """Remove a device; a pair goes as a whole. One that is gone already is well."""
        index = self.index(name)
        if not index:
            return
        try:
            self._ask(_RTM_DELLINK, _ACK, _link(index=index), f"remove {name}")
        except NetworkError as e:
            if not (isinstance(e.__cause__, OSError) and e.__cause__.errno == errno.ENODEV):
                raise

    def add_address(self, name: str, address: str, prefix: int) -> None:
        packed = socket.inet_aton(address)
        body = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, 0, self.index(name))
        body += _attributes((_IFA_LOCAL, packed), (_IFA_ADDRESS, packed))
        self._ask(_RTM_NEWADDR, _ACK | _CREATE | _EXCL, body, f"give {name} the address {address}")

    def add_default_route(self, gateway: str, mtu: int = 0) -> None:
        """``mtu``: the largest packet that goes that way; 0: as large as the device's."""
        metrics = [(_RTA_METRICS, _attributes((_RTAX_MTU, mtu)))] if mtu else []
        self._route(_RTM_NEWROUTE, None, gateway, *metrics)

    def remove_default_route(self, gateway: str) -> None:
        self._route(_RTM_DELROUTE, None, gateway)

    def add_route(self, subnet: IPv4Network, gateway: str) -> None:
        self._route(_RTM_NEWROUTE, subnet, gateway)

    def remove_route(self, subnet: IPv4Network, gateway: str) -> None:
        self._route(_RTM_DELROUTE, subnet, gateway)

    def _route(self, kind: int, subnet: IPv4Network | None, gateway: str, *more: tuple[int, Value]) -> None:
        body = struct.pack(
            "=BBBBBBBBI",
            socket.AF_INET,
            subnet.prefixlen if subnet else 0,
            0,
            0,
            _TABLE_MAIN,
            _PROTOCOL_STATIC,
            0,
            _TYPE_UNICAST,
            0,
        )
        if subnet:
            body += _attributes((_RTA_DST, subnet.network_address.packed))
        body += _attributes((_RTA_GATEWAY, socket.inet_aton(gateway)), *more)
        flags = _CREATE | _EXCL if kind == _RTM_NEWROUTE else 0
        self._ask(kind, _ACK | flags, body, f"route {subnet or 'all'} by {gateway}")

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        header = struct.pack("=IHHII", _HEADER + len(body), kind, _REQUEST | flags, 1, 0)
        self._sock.sendto(header + body, (0, 0))

    def _ask(self, kind: int, flags: int, body: bytes, what: str) -> bytes:
        self._send(kind, flags, body)
        answer = self._sock.recv(_SIZE)
        if struct.unpack_from("=H", answer, 4)[0] == _ERROR:
            number = -struct.unpack_from("=i", answer, _HEADER)[0]
            if number:
                cause = OSError(number, os.strerror(number))
                raise NetworkError(f"cannot {what}: {cause.strerror}") from cause
        return answer

    def _dump(self, kind: int, body: bytes, what: str) -> list[bytes]:
        self._send(kind, _DUMP, body)
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
