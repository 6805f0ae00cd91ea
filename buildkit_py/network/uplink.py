"""What connects a holder's namespace R with the world: of root a pair of devices, of others a program.

Both are the main thread's, which is in the host's network; ``inside`` runs a function in R.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from ipaddress import IPv4Network

from buildkit_py.errors import NetworkError, PybuildError
from buildkit_py.linux import forwarding, nftables
from buildkit_py.network import devices, filter, firewall, private, routes
from buildkit_py.network.filter import HOST_DEVICES, UPLINK
from buildkit_py.network.netlink import Netlink
from buildkit_py.typed import Protocol

_LINKS = IPv4Network("169.254.64.0/18")
"""Where the addresses of pairs are taken from, which nobody sees but the host and R."""
_NETCONF = 24
"""The group of rtnetlink(7) that hears of changed settings of devices."""


class Inside(Protocol):
    namespace: int

    def __call__(self, work: Callable[[], None], /) -> None: ...


class Program:
    """slirp4netns or pasta."""

    def __init__(self) -> None:
        self._pid = 0
        self._exit_r, self._exit_w = os.pipe2(os.O_CLOEXEC)

    def reap(self, pid: int) -> None:
        """A child ended. It may have been ours: the next container that needs it has it started again."""
        if pid == self._pid:
            self._pid = 0

    def open(self, inside: Inside) -> list[str]:
        """Connect R, where it isn't; what is to be said."""
        if self._pid:
            return []
        obstacle = private.obstacle()
        if obstacle is not None:
            return [f"networks have no way out: {obstacle.message}"]
        self._pid = private.connect(inside.namespace, device=UPLINK, exit_fd=self._exit_r)
        came: list[bool] = []
        inside(lambda: came.append(devices.wait_for(UPLINK, 10)))
        return [] if came[0] else ["networks have no way out: the private network did not come up"]

    def close(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)


def host_device(folder: str) -> str:
    """The name of the host's end of the pair of a store's holder; ``folder`` is the store's ``network``."""
    from zlib import crc32

    return f"{HOST_DEVICES}{crc32(os.fsencode(folder)):08x}"


class Pair:
    """A pair of devices, one in R, one on the host, with routes to R's networks and rules for what may pass.

    Nothing outlives R and this process: the devices go with R, and the routes with them; the table of rules
    with its connection. What else was changed is undone by ``leave_host``, or by the next to come.
    """

    def __init__(self, folder: str, inside: Inside) -> None:
        """``folder`` is the store's. Raises NetworkError and SandboxError; then nothing is left."""
        self.device = host_device(folder)
        self._forwarding: tuple[str, ...] = ()
        self._routed: set[IPv4Network] = set()
        self._admitted = False
        self._rules = nftables.Connection()
        self._settings = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        try:
            why = forwarding.obstacle()
            if why:
                raise NetworkError(why)
            self._settings.bind((0, 0))
            self._settings.setsockopt(270, 1, _NETCONF)  # SOL_NETLINK, NETLINK_ADD_MEMBERSHIP
            with Netlink() as netlink:
                self._connect(netlink, inside)
            self._admitted = firewall.admit(self.device, self._rules)
            self.forward()
        except BaseException:
            self._fail()
            raise

    def _connect(self, netlink: Netlink, inside: Inside) -> None:
        # One who was killed may have left it a moment ago: the kernel takes its time with namespaces.
        netlink.remove(self.device)
        link = _free_link(int(self.device.removeprefix(HOST_DEVICES), 16))
        self.address, self._far = str(link[1]), str(link[2])
        netlink.add_pair(self.device, UPLINK, inside.namespace, "")
        netlink.add_address(self.device, self.address, link.prefixlen)
        netlink.set_up(self.device)
        way_out = routes.default_device()
        self.mtu = netlink.mtu(way_out) if way_out else 0
        """What containers may send at once to the world, in bytes; 0: unknown."""

        def far_end() -> None:
            with Netlink() as netlink:
                netlink.add_address(UPLINK, self._far, link.prefixlen)
                netlink.set_up(UPLINK)
                netlink.add_default_route(self.address)

        inside(far_end)

    def fileno(self) -> int:
        """Readable when a device's settings changed: then ``settings_changed`` is to be called."""
        return self._settings.fileno()

    def settings_changed(self) -> None:
        try:
            while self._settings.recv(1 << 16):
                pass
        except OSError:
            pass
        if self._forwarding and forwarding.everywhere():
            # Somebody made a router of this machine: what it passes on for others is theirs to say.
            self.forward()

    def forward(self) -> None:
        """Have the devices that lead to the world pass answers on, and nothing else. Raises NetworkError and
        SandboxError."""
        others = {r.device for r in routes.read() if not r.device.startswith((HOST_DEVICES, "lo"))}
        self._forwarding = forwarding.turn_on(self.device, others)
        self._rules.run(filter.host_rules(self.device, self._forwarding))

    def lead_to(self, subnet: IPv4Network) -> str:
        """Have the host reach a network of R; why it can't, where it can't."""
        if subnet in self._routed:
            return ""
        for other in routes.subnets(self.device):
            if subnet.overlaps(other):
                return f"this machine has a route to {other} already, and can't reach containers on {subnet}"
        try:
            with Netlink() as netlink:
                netlink.add_route(subnet, self._far)
        except NetworkError as e:
            return f"this machine can't reach containers on {subnet}: {e.message}"
        self._routed.add(subnet)
        return ""

    def routed(self, subnet: IPv4Network) -> bool:
        return subnet in self._routed

    def forget(self, subnet: IPv4Network) -> None:
        if subnet in self._routed:
            self._routed.discard(subnet)
            with Netlink() as netlink:
                netlink.remove_route(subnet, self._far)

    def leave_host(self) -> None:
        """Undo what does not go with R and this process. Raises nothing."""
        try:
            if self._forwarding:
                with Netlink() as netlink:
                    others = {name for name in netlink.links() if name.startswith(HOST_DEVICES)}
                forwarding.turn_off(bool(others - {self.device}))
            if self._admitted:
                firewall.dismiss(self.device)
        except PybuildError:
            pass

    def _fail(self) -> None:
        self.leave_host()
        try:
            with Netlink() as netlink:
                netlink.remove(self.device)
        except PybuildError:
            pass
        self._settings.close()
        self._rules.close()


def _free_link(number: int) -> IPv4Network:
    """Addresses for the two ends of a pair."""
    taken = [subnet for subnet in routes.subnets() if subnet.prefixlen > 16]
    first, count = int(_LINKS[0]), _LINKS.num_addresses // 4
    for n in range(count):
        link = IPv4Network((first + (number + n) % count * 4, 30))
        if not any(link.overlaps(other) for other in taken):
            return link
    raise NetworkError(f"no address of {_LINKS} is free")
