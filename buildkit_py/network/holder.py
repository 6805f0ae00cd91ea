"""The network holder: one process for each user and store, while containers are on networks.

It has a network namespace of its own, R (for an ordinary user in a user namespace of its own, N, which the
containers on networks join). R holds a bridge for each network; a container's namespace has one end of a
pair of virtual devices, the bridge the other. What leaves R for the world goes through another pair to the
host's network where the user is root, and where not through slirp4netns or pasta, which change nothing there
(buildkit_py.network.uplink). What may pass is said by the packet filter of R. With the holder all is gone.

The holder's main thread stays in the host's network: it talks to the clients, starts slirp4netns and passes
on what containers ask of name servers. A second thread lives in R and does what has to be done there.

A client is a connection to the socket ``network/holder`` in the store. A container stays attached as long as
the connection that attached it is open, so it comes off its networks when the process that runs it dies,
however it dies. The holder ends with its last connection, under the lock ``network/lock``.

Messages are JSON in packets, with descriptors beside them; ``op`` says what is asked for:

    hello                                       the namespaces N (of a user) and R
    attach {container, name, endpoints, dns}    with the container's network namespace
    connect {container, endpoint}               one more network for a container that is attached
    disconnect {container, network}
    rename {container, name}
    take {container, id, name, dns}             what was attached under another name, for it was not yet known
    state                                       who is attached, for tests and for looking
    ping
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
from collections.abc import Callable

from buildkit_py.errors import NetworkError, PybuildError
from buildkit_py.linux import forked
from buildkit_py.network import filter, names
from buildkit_py.network.bridge import Bridge, Place
from buildkit_py.network.client import PACKET
from buildkit_py.network.inside import Inside, within
from buildkit_py.network.netlink import Netlink
from buildkit_py.network.told import once
from buildkit_py.network.uplink import Pair, Program
from buildkit_py.typed import Any, NoReturn, TypeVar

T = TypeVar("T")
Json = dict[str, Any]
_TCP_CLIENTS = 64
"""Of the name servers, at once."""
_PAUSE = 0.05
"""Seconds between two looks whether to end, while there is no client."""


class Container:
    """A container that is attached; what its name server knows (names.Scope)."""

    def __init__(self, holder: Holder, message: Json, namespace: int) -> None:
        self._holder = holder
        self.id: str = message["container"]
        self.name: str = message["name"]
        self.namespace = namespace
        self.places: dict[str, Place] = {}
        """By network id."""
        self.dns: list[str] = message.get("dns") or []
        self.sockets: list[socket.socket] = []
        self.route = ""
        """The gateway of its default route."""

    def names(self, network: str) -> set[str]:
        """Each also with the network's, as ``reverse`` gives it."""
        own = {self.name.lower(), self.id[:12], *(a.lower() for a in self.places[network].aliases)}
        return own | {f"{name}.{self._holder.bridges[network].name.lower()}" for name in own}

    def lookup(self, name: str) -> list[str] | None:
        found = []
        for network in list(self.places):
            for other in self._holder.members(network):
                if name in other.names(network):
                    found.append(other.places[network].ip)
        return found or None

    def reverse(self, address: str) -> str:
        for network in list(self.places):
            for other in self._holder.members(network):
                if other.places[network].ip == address:
                    return f"{other.name}.{self._holder.bridges[network].name}"
        return ""

    def servers(self) -> list[str]:
        if all(self._holder.bridges[n].internal for n in list(self.places)):
            return []
        return list(self.dns) or self._holder.host_servers.get()


class Holder:
    def __init__(self, folder: str, adopted: int, as_root: bool, first: int) -> None:
        from threading import Semaphore

        self._folder = folder
        self._listener = _bind(folder)
        self._user = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._clients: dict[int, socket.socket] = {}
        self._leases: dict[int, list[str]] = {}
        """Containers by the connection that attached them."""
        self._containers: dict[str, Container] = {}
        self.bridges: dict[str, Bridge] = {}
        self.host_servers = names.HostServers()
        self._inside = Inside(adopted)
        self._rules = filter.Filter()
        self._program = Program()
        self._pair: Pair | None = None
        self._as_root = as_root
        """Whether a pair is to be tried, still."""
        self._threads = Semaphore(_TCP_CLIENTS)
        self._resolver = names.Resolver(self._watch, self._unwatch)
        self._watch(self._listener.fileno(), self._accept)
        if first >= 0:
            self._admit(socket.socket(fileno=first))

    # The loop.

    def run(self) -> NoReturn:
        while True:
            patience = self._resolver.patience() if self._clients else _PAUSE
            for fd, _ in self._epoll.poll(patience if patience >= 0 else None):
                call = self._calls.get(fd)
                if call is not None:
                    call()
            self._resolver.give_up()
            self._reap()
            if not self._clients:
                self._end()

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        self._calls[fd] = call
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._calls[fd]
        self._epoll.unregister(fd)

    def _reap(self) -> None:
        try:
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._program.reap(pid)
        except ChildProcessError:
            pass

    def _end(self) -> None:
        """End, unless somebody comes just now. Whoever starts a holder has the lock, and may die with it, or
        find that another one is there."""
        lock = os.open(os.path.join(self._folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Its holder is about to connect.
            os.close(lock)
            return
        self._accept()
        if self._clients:
            os.close(lock)
            return
        os.unlink(os.path.join(self._folder, "holder"))
        self._program.close()
        if self._pair is not None:
            self._pair.leave_host()
        os._exit(0)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        self._clients[client.fileno()] = client
        self._watch(client.fileno(), lambda: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(client, PACKET, 4, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, fds = b"", []
        if not data:
            self._leave(client)
            return
        given = tuple[int, ...]()
        try:
            message = json.loads(data)
            answer, given = self._answer(client, message, fds)
        except PybuildError as e:
            answer = {"error": e.message, "hint": e.hint}
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        finally:
            for fd in fds:
                os.close(fd)
        try:
            socket.send_fds(client, [json.dumps(answer).encode()], given, socket.MSG_NOSIGNAL)
        except OSError:
            self._leave(client)

    def _leave(self, client: socket.socket) -> None:
        fd = client.fileno()
        if fd not in self._clients:
            return
        del self._clients[fd]
        self._unwatch(fd)
        client.close()
        if not self._clients:
            # With R all goes at once; one after the other the kernel takes 20 ms for each device.
            self._end()
        for container in self._leases.pop(fd, []):
            self._release(self._containers[container])

    def _answer(self, client: socket.socket, message: Json, fds: list[int]) -> tuple[Json, tuple[int, ...]]:
        op = message["op"]
        if op == "hello":
            return {"pid": os.getpid()}, (self._inside.namespace, self._user)
        if op == "ping":
            return {}, ()
        if op == "attach":
            return self._attach(client, message, os.dup(fds[0])), ()
        if op == "state":
            return {"containers": [self._told(c) for c in self._containers.values()]}, ()
        container = self._containers.get(message["container"])
        if container is None:
            raise NetworkError(
                f"the container {message['container'][:12]} runs without networks",
                hint="stop it, connect it, and start it again",
            )
        if op == "connect":
            warnings = self._join(container, message["endpoint"])
            self._set_route(container)
            return {**self._told(container), "warnings": warnings}, ()
        if op == "disconnect":
            self._part(container, message["network"])
            self._set_route(container)
            return self._told(container), ()
        if op == "take":
            return self._take(client, container, message), ()
        if op == "rename":
            container.name = message["name"]
            return {}, ()
        raise NetworkError(f"the network holder does not know {op!r}: it is an older pybuild's")

    # Containers.

    def members(self, network: str) -> list[Container]:
        return [c for c in list(self._containers.values()) if network in c.places]

    def _told(self, container: Container) -> Json:
        endpoints = [
            {
                "network": self.bridges[network].name,
                "network_id": network,
                "ip": place.ip,
                "prefix": self.bridges[network].subnet.prefixlen,
                "gateway": self.bridges[network].gateway,
                "mac": place.mac,
                "aliases": place.aliases,
            }
            for network, place in container.places.items()
        ]
        return {"container": container.id, "name": container.name, "endpoints": endpoints}

    def _attach(self, client: socket.socket, message: Json, namespace: int) -> Json:
        container = Container(self, message, namespace)
        if container.id in self._containers:
            os.close(namespace)
            raise NetworkError(f"the container {container.name} is attached already")
        self._containers[container.id] = container
        warnings: list[str] = []
        try:
            for endpoint in message["endpoints"]:
                warnings += self._join(container, endpoint)
            self._set_route(container)
            self._serve_names(container)
        except BaseException:
            self._release(container)
            raise
        self._leases.setdefault(client.fileno(), []).append(container.id)
        return {**self._told(container), "warnings": warnings}

    def _take(self, client: socket.socket, container: Container, message: Json) -> Json:
        if message["id"] in self._containers:
            raise NetworkError(f"the container {message['name']} is attached already")
        leased = self._leases[client.fileno()]
        leased[leased.index(container.id)] = message["id"]
        del self._containers[container.id]
        container.id, container.name, container.dns = message["id"], message["name"], message["dns"]
        self._containers[container.id] = container
        return self._told(container)

    def _release(self, container: Container) -> None:
        """Take a container off everything. What went with its namespace already is well."""
        for sock in container.sockets:
            self._unwatch(sock.fileno())
            sock.close()
        for network in list(container.places):
            self._part(container, network)
        self._containers.pop(container.id, None)
        os.close(container.namespace)

    def _join(self, container: Container, endpoint: Json) -> list[str]:
        """Put a container on a network; what is to be said of that."""
        network = endpoint["network"]
        if network["id"] in container.places:
            raise NetworkError(f"the container {container.name} is on {network['name']} already")
        bridge = self.bridges.get(network["id"]) or Bridge(network)
        ip = bridge.take(endpoint.get("ip") or "")
        taken = {place.peer for place in container.places.values()}
        peer = next(name for n in range(256) if (name := f"eth{n}") not in taken)
        mac = endpoint.get("mac") or "02:42:" + ":".join(f"{int(part):02x}" for part in ip.split("."))
        device = f"v{container.id[:8]}{network['id'][:5]}"
        new = bridge.id not in self.bridges
        self.bridges[bridge.id] = bridge
        container.places[bridge.id] = Place(device, peer, ip, mac, tuple(endpoint.get("aliases") or ()))
        try:
            self._inside(lambda: _plug(bridge, new, device, peer, mac, ip, container.namespace))
            return self._open_up(bridge, new)
        except BaseException:
            self._part(container, bridge.id)
            raise

    def _part(self, container: Container, network: str) -> None:
        place = container.places.get(network)
        if place is None:
            raise NetworkError(f"the container {container.name} is not on that network")
        bridge = self.bridges[network]
        self._inside(lambda: _unplug(place.device))
        del container.places[network]
        bridge.used.discard(place.ip)
        if not self.members(network):
            del self.bridges[network]
            self._inside(lambda: _unplug(bridge.device))
            if self._pair is not None:
                self._pair.forget(bridge.subnet)
            self._inside(self._filter)

    def _set_route(self, container: Container) -> None:
        """The default route goes by the first network that has a way out."""
        gateways = [b.gateway for n in container.places if not (b := self.bridges[n]).internal]
        wanted = gateways[0] if gateways else ""

        def change() -> None:
            with Netlink(container.namespace) as netlink:
                if container.route and container.route != wanted:
                    try:
                        netlink.remove_default_route(container.route)
                    except NetworkError:
                        # It went with its device.
                        pass
                if wanted and container.route != wanted:
                    netlink.add_default_route(wanted, self._pair.mtu if self._pair is not None else 0)

        self._inside(change)
        container.route = wanted

    def _serve_names(self, container: Container) -> None:
        udp, tcp = self._inside(lambda: within(container.namespace, names.listen))
        container.sockets = [udp, tcp]
        self._watch(udp.fileno(), lambda: self._resolver.serve_udp(udp, container))
        self._watch(tcp.fileno(), lambda: self._take_tcp(tcp, container))

    def _take_tcp(self, listener: socket.socket, container: Container) -> None:
        import _thread

        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if not self._threads.acquire(blocking=False):
            # Whoever asks for so much at once may ask again.
            connection.close()
            return

        def serve() -> None:
            try:
                names.serve_tcp(connection, container)
            finally:
                self._threads.release()

        _thread.start_new_thread(serve, ())

    # The way out.

    def _open_up(self, bridge: Bridge, new: bool) -> list[str]:
        """Say what a bridge may do, and give R a way out where it needs one; what is to be told."""
        told = self._pave(bridge) if new else []
        if new:
            self._filtered = self._inside(self._filter)
        if bridge.internal or self._pair is not None:
            return told
        if not self._filtered:
            return [
                *told,
                "networks have no way out: nft and iptables are missing, or the kernel refuses them",
            ]
        return [*told, *self._program.open(self._inside)]

    _filtered = False

    def warm_up(self) -> None:
        """Connect R with the host's network, where the user is root."""
        if not self._as_root:
            return
        self._as_root = False
        try:
            self._pair = pair = Pair(self._folder, self._inside)
            self._watch(pair.fileno(), pair.settings_changed)
        except PybuildError as e:
            text = f"this machine can't reach containers by their address: {e.message}"
            self._failed = [text] if once(self._folder, text) else []

    _failed: list[str] = []

    def _pave(self, bridge: Bridge) -> list[str]:
        """Connect R, and this bridge, with the host's network."""
        if self._pair is not None and self.bridges.keys() != {bridge.id}:
            # Devices may have come since.
            self._pair.forward()
        self.warm_up()
        told, self._failed = self._failed, []
        if self._pair is not None:
            why = self._pair.lead_to(bridge.subnet)
            told += [why] if why else []
        return told

    def _filter(self) -> bool:
        pair = self._pair
        rules = [
            filter.Rule(b.device, not b.internal, b.gateway, pair is not None and not pair.routed(b.subnet))
            for b in self.bridges.values()
        ]
        applied = self._rules.apply(rules, pair.address if pair is not None else "")
        _write("/proc/sys/net/ipv4/ip_forward", "1" if applied else "0")
        return applied


def _plug(bridge: Bridge, new: bool, device: str, peer: str, mac: str, ip: str, namespace: int) -> None:
    """In R: a pair of devices between a bridge and a container."""
    with Netlink() as netlink:
        if new:
            netlink.add_bridge(bridge.device, bridge.mtu)
            netlink.add_address(bridge.device, bridge.gateway, bridge.subnet.prefixlen)
            netlink.set_up(bridge.device)
        netlink.add_pair(device, peer, namespace, mac, bridge.mtu)
        netlink.set_up(device, bridge=bridge.device)
    with Netlink(namespace) as netlink:
        netlink.set_up("lo")
        netlink.add_address(peer, ip, bridge.subnet.prefixlen)
        netlink.set_up(peer)


def _unplug(device: str) -> None:
    with Netlink() as netlink:
        netlink.remove(device)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w") as f:
            f.write(text)
    except OSError:
        # /proc may be read-only, as in a container; then what is set already has to do.
        pass


def _bind(folder: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    here = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        # A socket's path may have 107 bytes, a store's more.
        path = f"/proc/self/fd/{here}/holder"
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        sock.bind(path)
        sock.listen(128)
    finally:
        os.close(here)
    return sock


def main(folder: str, ready: int, adopted: int = -1, first: int = -1, lock: int = -1) -> NoReturn:
    """Be the holder of a store. ``ready`` is told when clients may come, or what is wrong, as JSON.

    ``adopted`` is the R of a holder that died; then this process is in its N. ``first``: a client that is
    connected already. ``lock``: what keeps others from starting a holder meanwhile; it is given up.
    """
    status = 1
    try:
        forked.settle((fd for fd in (ready, adopted, first, lock) if fd >= 0), dies_with_parent=False)
        os.chdir("/")
        os.umask(0o077)
        _write("/proc/self/comm", "pybuild-net")
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        from buildkit_py.linux import userns

        identity = userns.enter() if adopted < 0 else userns.present()
        holder = Holder(folder, adopted, identity.mode == "root", first)
        os.write(ready, b"{}")
        status = 0
        os.close(ready)
        if lock >= 0:
            # Started ahead: there is time.
            os.close(lock)
            holder.warm_up()
        holder.run()
    except PybuildError as e:
        os.write(ready, json.dumps({"error": e.message, "hint": e.hint}).encode())
    except BaseException as e:
        if status:
            os.write(ready, json.dumps({"error": f"{type(e).__name__}: {e}"}).encode())
    finally:
        os._exit(status)
    raise AssertionError
