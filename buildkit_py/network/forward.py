"""The forwarder: a process that carries what arrives at published ports into a network namespace.

It is born in the namespace (or enters it) and holds listening sockets that were made outside, so a socket
that it makes itself is an inner one: what is accepted on the one side is connected on the other, and
no program, device or firewall rule is needed. Streams are moved by splice(2), without a copy in between.
The container sees the connection come from an address of its own network.

For a container on networks it also keeps the connection to the network holder: the container comes off its
networks when the forwarder ends, and where the holder dies, the forwarder has another one take over.

It ends with the process that started it, and when that closes its end of the socket between them.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import resource
import select
import struct
import time
from collections.abc import Sequence

from buildkit_py.errors import SandboxError
from buildkit_py.linux import forked
from buildkit_py.linux import syscalls as sc
from buildkit_py.network.lease import Lease
from buildkit_py.network.ports import Listener
from buildkit_py.typed import Any, NoReturn

_CHUNK = 1 << 20
_ROUNDS = 16
"""Chunks that one stream may move before the others have their turn."""
_IDLE = 90.0
"""Seconds after which a udp client that says nothing is forgotten."""
_SIOCGIFADDR = 0x8915
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_STREAM = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
_DATAGRAM = _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC


class Forwarder:
    """A running forwarder; ``namespace`` is a descriptor of the network namespace that it is in."""

    def __init__(self, pid: int, link: _socket.socket, namespace: int) -> None:
        self._pid = pid
        self._link = link
        self.namespace = namespace

    def close(self) -> None:
        """End it. Safe to call twice."""
        if self._pid < 0:
            return
        self._link.close()
        os.waitpid(self._pid, 0)
        os.close(self.namespace)
        self._pid = -1


def start(
    listeners: Sequence[Listener], namespace: int = -1, target: str = "", lease: Lease | None = None
) -> Forwarder:
    """Carry what arrives at ``listeners`` (they are taken over) into a namespace, by default a new one.

    ``target`` is the container's address, as long as ``lease`` knows no other; "": that of the namespace's
    device eth0, its loopback where it has none. ``lease`` is taken over, too. Only in a process with one
    thread. Raises SandboxError.
    """
    mine, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    pid, pidfd = sc.clone(sc.CLONE_NEWNET if namespace < 0 else 0)
    if pid == 0:
        _main(other, listeners, namespace, target, lease)
    os.close(pidfd)
    other.close()
    try:
        inside = (
            os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC) if namespace < 0 else os.dup(namespace)
        )
    except OSError as e:
        mine.close()
        os.waitpid(pid, 0)
        raise SandboxError(f"cannot open the network namespace: {e.strerror}", call="open") from e
    for listener in listeners:
        listener.sock.close()
    if lease is not None:
        lease.link.close()
    return Forwarder(pid, mine, inside)


def _main(
    link: _socket.socket,
    listeners: Sequence[Listener],
    namespace: int,
    target: str,
    lease: Lease | None,
) -> NoReturn:
    try:
        keep = [link.fileno(), *(listener.sock.fileno() for listener in listeners)]
        if namespace >= 0:
            keep.append(namespace)
        if lease is not None:
            keep += lease.descriptors()
        forked.settle(keep)
        if lease is not None:
            lease.keep()
        if namespace >= 0:
            sc.setns(namespace, sc.CLONE_NEWNET)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        Loop(link, listeners, target, lease).run()
    finally:
        os._exit(0)


class _Stream:
    """One connection: what its two sockets say to each other, by way of a pipe each way."""

    def __init__(self, outer: _socket.socket, inner: _socket.socket) -> None:
        self.outer = outer
        self.inner = inner
        self.connected = False
        self.closed = False
        self._ways = (_Way(outer.fileno(), inner), _Way(inner.fileno(), outer))

    def advance(self) -> bool:
        """Move what can be moved; whether there may be more at once. OSError where a side is gone."""
        if not self.connected:
            error = self.inner.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            try:
                self.inner.getpeername()
            except OSError as e:
                if e.errno == errno.ENOTCONN:
                    return False
                raise
            self.connected = True
        more = [way.advance() for way in self._ways]
        return any(more)

    @property
    def done(self) -> bool:
        return all(way.done for way in self._ways)

    def close(self, *, reset: bool) -> None:
        self.closed = True
        if reset:
            try:
                self.outer.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
        self.outer.close()
        self.inner.close()
        for way in self._ways:
            way.close()


class _Way:
    """One direction of a stream."""

    def __init__(self, source: int, dest: _socket.socket) -> None:
        self._source = source
        self._dest = dest
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._held = 0
        """Bytes in the pipe."""
        self._ended = False
        self.done = False

    def advance(self) -> bool:
        for _ in range(_ROUNDS):
            if self.done:
                return False
            if not self._held and not self._ended:
                try:
                    self._held = os.splice(self._source, self._write, _CHUNK, flags=_SPLICE)
                except BlockingIOError:
                    return False
                self._ended = self._held == 0
            try:
                while self._held:
                    self._held -= os.splice(self._read, self._dest.fileno(), self._held, flags=_SPLICE)
            except BlockingIOError:
                return False
            if self._ended:
                self.done = True
                self._dest.shutdown(_socket.SHUT_WR)
        return not self.done

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class _Client:
    """A udp client: the inner socket by which its datagrams go on."""

    def __init__(self, inner: _socket.socket, listener: Listener, address: Any) -> None:
        self.inner = inner
        self.listener = listener
        self.address = address
        self.heard = time.monotonic()


class Loop:
    """All that one forwarder does, in one thread."""

    def __init__(
        self, link: _socket.socket, listeners: Sequence[Listener], target: str, lease: Lease | None = None
    ) -> None:
        self._link = link
        self._lease = lease
        self._listeners = {listener.sock.fileno(): listener for listener in listeners}
        self._target = target
        self._streams: dict[int, _Stream] = {}
        self._clients: dict[tuple[int, object], _Client] = {}
        self._by_inner: dict[int, _Client] = {}
        self._epoll = select.epoll()
        self._epoll.register(link.fileno(), select.EPOLLIN)
        for fd in self._listeners:
            self._epoll.register(fd, select.EPOLLIN)
        if lease is not None:
            self._epoll.register(lease.fileno(), select.EPOLLIN)

    def run(self) -> None:
        again: set[_Stream] = set()
        while True:
            ready = self._epoll.poll(0 if again else _IDLE)
            turn, again = again, set()
            for fd, _ in ready:
                if fd == self._link.fileno():
                    return
                if self._lease is not None and fd == self._lease.fileno():
                    self._renew(self._lease)
                elif fd in self._listeners:
                    self._take(self._listeners[fd])
                elif fd in self._streams:
                    turn.add(self._streams[fd])
                elif fd in self._by_inner:
                    self._answer(self._by_inner[fd])
            for stream in turn:
                if not stream.closed and self._advance(stream):
                    again.add(stream)
            if self._clients:
                self._forget()

    def _renew(self, lease: Lease) -> None:
        """The holder is gone: have another one take the container up, with the address that it had."""
        self._epoll.unregister(lease.fileno())
        if lease.renew():
            self._epoll.register(lease.fileno(), select.EPOLLIN)
        else:
            lease.link.close()
            self._lease = None

    def _take(self, listener: Listener) -> None:
        if listener.port.protocol == "udp":
            self._pass_on(listener)
            return
        for _ in range(_ROUNDS):
            try:
                fd, _address = listener.sock._accept()  # type: ignore[attr-defined]
            except OSError as e:
                if e.errno in (errno.EMFILE, errno.ENFILE):
                    # No more until one ends; without this the listener would be ready all the time.
                    time.sleep(0.01)
                return
            outer = _socket.socket(fileno=fd)
            outer.setblocking(False)
            self._connect(outer, listener)

    def _connect(self, outer: _socket.socket, listener: Listener) -> None:
        address, family = self._address()
        try:
            inner = _socket.socket(family, _STREAM)
        except OSError:
            outer.close()
            return
        try:
            error = inner.connect_ex((address, listener.port.container))
            if error not in (0, errno.EINPROGRESS):
                raise OSError(error, "")
            for sock in (outer, inner):
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
            stream = _Stream(outer, inner)
        except OSError:
            inner.close()
            outer.close()
            return
        for sock in (outer, inner):
            self._streams[sock.fileno()] = stream
            # Edges: each wake is answered by moving until nothing moves.
            self._epoll.register(
                sock.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
            )

    def _advance(self, stream: _Stream) -> bool:
        try:
            more = stream.advance()
            finished, reset = stream.done, False
        except OSError:
            more, finished, reset = False, True, True
        if finished:
            for sock in (stream.outer, stream.inner):
                del self._streams[sock.fileno()]
            stream.close(reset=reset)
            return False
        return more

    def _pass_on(self, listener: Listener) -> None:
        for _ in range(_ROUNDS):
            try:
                data, sender = listener.sock.recvfrom(65536)
            except OSError:
                return
            key = (listener.sock.fileno(), sender)
            client = self._clients.get(key)
            if client is None:
                address, family = self._address()
                try:
                    inner = _socket.socket(family, _DATAGRAM)
                    inner.connect((address, listener.port.container))
                except OSError:
                    continue
                client = self._clients[key] = _Client(inner, listener, sender)
                self._by_inner[inner.fileno()] = client
                self._epoll.register(inner.fileno(), select.EPOLLIN)
            client.heard = time.monotonic()
            try:
                client.inner.send(data)
            except OSError:
                # Refused, or no room: a datagram may be lost.
                pass

    def _answer(self, client: _Client) -> None:
        for _ in range(_ROUNDS):
            try:
                data = client.inner.recv(65536)
                client.listener.sock.sendto(data, client.address)
            except OSError:
                return
            client.heard = time.monotonic()

    def _forget(self) -> None:
        limit = time.monotonic() - _IDLE
        for key, client in [item for item in self._clients.items() if item[1].heard < limit]:
            del self._clients[key]
            del self._by_inner[client.inner.fileno()]
            client.inner.close()

    def _address(self) -> tuple[str, int]:
        if self._lease is not None:
            # It may have been disconnected and connected since.
            self._target = self._lease.address() or self._target
        if not self._target:
            found = device_address("eth0")
            if not found:
                return "127.0.0.1", _socket.AF_INET
            self._target = found
        return self._target, _socket.AF_INET6 if ":" in self._target else _socket.AF_INET


def device_address(device: str) -> str:
    """The IPv4 address of a device of this network namespace, "" where it has none."""
    sock = _socket.socket(_socket.AF_INET, _DATAGRAM)
    try:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, struct.pack("16s24x", device.encode()))
    except OSError:
        return ""
    finally:
        sock.close()
    return _socket.inet_ntop(_socket.AF_INET, answer[20:24])
