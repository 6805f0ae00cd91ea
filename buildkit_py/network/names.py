"""The name server of containers on networks: it listens at 127.0.0.11 in each one's namespace.

Names of containers on the same network are answered here; every other question is passed on as it came to the
container's servers, or the host's, from the host's network. A container without a way out gets no answer
to those.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable

from buildkit_py.typed import Any, Protocol

ADDRESS = "127.0.0.11"
_PORT = 53
_PATIENCE = 4.0
"""Seconds that a server gets; then the next one is asked."""
_TTL = 60
_MOST = 512
"""Questions under way at once; more are dropped, and asked again by whoever asked."""


class Scope(Protocol):
    """Who asks: a container as its name server knows it."""

    def lookup(self, name: str) -> list[str] | None:
        """The addresses of a name on the container's networks; None: it is not known there."""

    def reverse(self, address: str) -> str:
        """The name of an address on them; "": none."""

    def servers(self) -> list[str]:
        """Whom to ask for other names, as a list of the caller's own; empty: nobody."""


def listen() -> tuple[socket.socket, socket.socket]:
    """The udp and the tcp socket, in the calling thread's namespace, whose loopback is up."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        udp.bind((ADDRESS, _PORT))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((ADDRESS, _PORT))
        tcp.listen(64)
    except BaseException:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


def answer(query: bytes, scope: Scope) -> bytes | None:
    """The answer to a question about a container or about nobody; None: it is to be passed on.

    Raises ValueError for what is no question.
    """
    from dnslib import PTR, QTYPE, RCODE, RR, A, DNSRecord

    try:
        record = DNSRecord.parse(query)
        # A name may be taken apart and yet be too long to be put together again.
        reply = record.reply(ra=1, aa=0)
        reply.pack()
    except Exception as e:
        # Whatever the parser makes of a container's bytes: the server of all containers is to live on.
        raise ValueError(f"{type(e).__name__}: {e}") from e
    if len(record.questions) != 1 or record.header.qr:
        raise ValueError("not one question")
    name, kind = str(record.q.qname), record.q.qtype
    if kind == QTYPE.PTR and name.lower().endswith(".in-addr.arpa."):
        address = ".".join(reversed(name[: -len(".in-addr.arpa.")].split(".")))
        found = scope.reverse(address)
        if found:
            reply.add_answer(RR(name, QTYPE.PTR, rdata=PTR(found), ttl=_TTL))
            return bytes(reply.pack())
    else:
        addresses = scope.lookup(name.rstrip(".").lower())
        if addresses is not None:
            if kind in (QTYPE.A, QTYPE.ANY):
                for address in addresses:
                    reply.add_answer(RR(name, QTYPE.A, rdata=A(address), ttl=_TTL))
            # Of other kinds a container has no records: an empty answer, so that nobody asks further.
            return bytes(reply.pack())
    if scope.servers():
        return None
    reply.header.rcode = RCODE.NXDOMAIN
    return bytes(reply.pack())


def failure(query: bytes) -> bytes:
    """SERVFAIL to a question, by its own header and question section."""
    flags = struct.unpack_from("!H", query, 2)[0]
    return query[:2] + struct.pack("!H", (flags & 0x7900) | 0x8082) + query[4:6] + bytes(6) + query[12:]


class _Pending:
    def __init__(self, query: bytes, reply: Callable[[bytes], None], servers: list[str]) -> None:
        self.query = query
        self.reply = reply
        self.servers = servers
        self.sock: socket.socket | None = None
        self.deadline = 0.0


class Resolver:
    """Passes questions on, each by a socket of its own; driven by the epoll loop that it is given.

    ``watch`` and ``unwatch`` register a descriptor with what is to be called when it is ready.
    """

    def __init__(
        self, watch: Callable[[int, Callable[[], None]], None], unwatch: Callable[[int], None]
    ) -> None:
        self._watch = watch
        self._unwatch = unwatch
        self._pending: set[_Pending] = set()

    def serve_udp(self, sock: socket.socket, scope: Scope) -> None:
        """Take the questions that wait at a container's socket."""
        for _ in range(16):
            try:
                query, sender = sock.recvfrom(4096)
            except OSError:
                return

            def reply(data: bytes, sender: Any = sender) -> None:
                try:
                    sock.sendto(data, sender)
                except OSError:
                    # The container is gone.
                    pass

            try:
                data = answer(query, scope)
            except ValueError:
                continue
            if data is not None:
                reply(data)
            elif len(self._pending) < _MOST:
                self._ask(_Pending(query, reply, scope.servers()))

    def _ask(self, pending: _Pending) -> None:
        """Ask the next of its servers."""
        while pending.servers:
            server = pending.servers.pop(0)
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError:
                continue
            try:
                sock.connect((server, _PORT))
                sock.send(pending.query)
            except OSError:
                sock.close()
                continue
            pending.sock, pending.deadline = sock, time.monotonic() + _PATIENCE
            self._pending.add(pending)
            self._watch(sock.fileno(), lambda: self._heard(pending))
            return
        pending.reply(failure(pending.query))

    def _heard(self, pending: _Pending) -> None:
        assert pending.sock is not None
        try:
            data = pending.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and data[:2] != pending.query[:2]:
            return
        self._drop(pending)
        if data:
            pending.reply(data)
        else:
            self._ask(pending)

    def _drop(self, pending: _Pending) -> None:
        assert pending.sock is not None
        self._pending.discard(pending)
        self._unwatch(pending.sock.fileno())
        pending.sock.close()

    def patience(self) -> float:
        """Seconds until something has to be given up; -1: nothing has."""
        if not self._pending:
            return -1
        return max(0.0, min(p.deadline for p in self._pending) - time.monotonic())

    def give_up(self) -> None:
        """Turn to the next server where one was silent for too long."""
        now = time.monotonic()
        for pending in [p for p in self._pending if p.deadline <= now]:
            self._drop(pending)
            self._ask(pending)


def serve_tcp(connection: socket.socket, scope: Scope) -> None:
    """One tcp connection of a container, to its end. Blocks: for a thread of its own."""
    try:
        connection.settimeout(_PATIENCE)
        while True:
            query = _receive(connection)
            if not query:
                return
            data = answer(query, scope) or _ask_by_tcp(query, scope.servers())
            connection.sendall(struct.pack("!H", len(data)) + data)
    except (OSError, ValueError):
        return
    finally:
        connection.close()


def _ask_by_tcp(query: bytes, servers: list[str]) -> bytes:
    for server in servers:
        try:
            with socket.create_connection((server, _PORT), _PATIENCE) as upstream:
                upstream.sendall(struct.pack("!H", len(query)) + query)
                data = _receive(upstream)
                if data:
                    return data
        except OSError:
            continue
    return failure(query)


def _receive(connection: socket.socket) -> bytes:
    """A message with its length before it; b"" at the end."""
    header = _exactly(connection, 2)
    return _exactly(connection, struct.unpack("!H", header)[0]) if header else b""


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            return b""
        parts += part
    return parts


class HostServers:
    """The servers of /etc/resolv.conf, read again when it changes."""

    def __init__(self, path: str = "/etc/resolv.conf") -> None:
        self._path = path
        self._seen = 0.0
        self._servers: list[str] = []

    def get(self) -> list[str]:
        from buildkit_py.network.resolv import nameservers

        try:
            changed = os.stat(self._path).st_mtime
            if changed != self._seen:
                with open(self._path, encoding="utf-8", errors="surrogateescape") as f:
                    self._servers = nameservers(f.read())
                self._seen = changed
        except OSError:
            self._servers = []
        return list(self._servers)
