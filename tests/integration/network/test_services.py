"""Real services from Debian's packages: a volume, a published port, a second container that knows a name."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.integration.network.conftest import Host, free_port
from tests.support.examples import FOLDER
from tests.support.people import Person
from tests.support.runner import Pybuild

pytestmark = [
    pytest.mark.needs("overlay", "user-namespaces", "seccomp", "slirp4netns"),
    pytest.mark.slow,
]

# A stored dump and an append-only file: what was written is on the volume when the answer has come.
REDIS = """
FROM debian:12-slim
RUN --mount=type=secret,id=apt.conf,target=/etc/apt/apt.conf.d/99host \\
    --mount=type=secret,id=apt-auth,target=/etc/apt/auth.conf.d/host.conf \\
    --mount=type=secret,id=ca-certificates.crt,mode=0444 \\
    apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
VOLUME /data
WORKDIR /data
EXPOSE 6379
ENTRYPOINT ["redis-server", "--protected-mode", "no", "--dir", "/data"]
CMD ["--appendonly", "yes", "--appendfsync", "always"]
"""


class Redis:
    """One connection, by the protocol's inline commands and simple answers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")

    def __call__(self, command: str) -> str:
        self._sock.sendall(command.encode() + b"\r\n")
        line = self._file.readline().decode().strip()
        if line.startswith("$"):
            return self._file.readline().decode().strip() if line != "$-1" else ""
        return line


@contextmanager
def redis(port: int) -> Iterator[Redis]:
    """Connected to a server that may still be starting."""
    with connected(port, b"PING\r\n", b"+PONG\r\n") as sock:
        yield Redis(sock)


@contextmanager
def connected(port: int, hello: bytes, welcome: bytes) -> Iterator[socket.socket]:
    """A connection to a server that answers ``hello`` by ``welcome``; tried again until it does."""
    end = time.monotonic() + 60
    while True:
        sock = socket.socket()
        sock.settimeout(10)
        try:
            sock.connect(("127.0.0.1", port))
            sock.sendall(hello)
            if sock.recv(len(welcome), socket.MSG_WAITALL) == welcome:
                break
        except ConnectionError:
            pass
        sock.close()
        assert time.monotonic() < end, "the service does not answer"
    with sock:
        yield sock


def test_redis(host: Host, kept: Callable[[str], Pybuild], host_flags: Callable[[Person], list[str]]) -> None:
    host.use_store(kept(host.person.kind))
    context = host.context({"Dockerfile": REDIS}, "redis")
    host("build", "-q", "-t", "redis:1", *host_flags(host.person), context)
    host("network", "create", "shop")
    port = free_port()
    where = ("--network", "shop", "-p", f"127.0.0.1:{port}:6379")
    options = ("--name", "store", *where, "-v", "shop-data:/data")
    host("run", "-d", *options, "redis:1")
    try:
        with redis(port) as ask:
            assert ask("SET greeting hello") == "+OK"
        client = ("--entrypoint", "redis-cli", "redis:1", "-h", "store")
        by_name = host("run", "--rm", "--network", "shop", *client, "get", "greeting")
        assert by_name.stdout == "hello\n"
        assert f"127.0.0.1:{port}->6379/tcp" in host("ps").stdout
        host("stop", "store")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 10)
        host("start", "store")
        with redis(port) as ask:
            assert ask("GET greeting") == "hello"
            assert ask("INCR visits") == ":1"
        # Another container, the same volume.
        host("rm", "-f", "store")
        host("run", "-d", *options, "redis:1")
        with redis(port) as ask:
            assert ask("GET greeting") == "hello" and ask("GET visits") == "1"
    finally:
        host("rm", "-f", "store", status=None)
        host("network", "rm", "shop")


STARTUP = b"user\0postgres\0database\0postgres\0\0"


class Postgres:
    """One connection, by PostgreSQL's protocol, version 3."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")
        self._until_ready()

    def __call__(self, sql: str) -> list[str]:
        """The first column of a query's rows."""
        self._sock.sendall(b"Q" + struct.pack("!I", len(sql) + 5) + sql.encode() + b"\0")
        return self._until_ready()

    def _until_ready(self) -> list[str]:
        rows = []
        while True:
            kind, length = struct.unpack("!cI", self._file.read(5))
            body = self._file.read(length - 4)
            assert kind != b"E", body
            if kind == b"D":
                size = struct.unpack_from("!i", body, 2)[0]
                rows.append(body[6 : 6 + size].decode())
            if kind == b"Z":
                return rows


@contextmanager
def postgres(port: int) -> Iterator[Postgres]:
    startup = struct.pack("!II", len(STARTUP) + 8, 196608) + STARTUP
    # Authentication is trusted: "R", 8 bytes, 0.
    with connected(port, startup, b"R\0\0\0\x08\0\0\0\0") as sock:
        yield Postgres(sock)


def test_postgres(
    host: Host, kept: Callable[[str], Pybuild], host_flags: Callable[[Person], list[str]]
) -> None:
    if host.person.kind == "single":
        # The server refuses to be user id 0, which is all that one mapped id can be; test_redis is of it.
        return
    host.use_store(kept(host.person.kind))
    context = host.copy(FOLDER / "postgres")
    host("build", "-q", "-t", "postgres:1", *host_flags(host.person), context)
    host("network", "create", "--label", "of=test", "office")
    port = free_port()
    trust = "echo 'host all all all trust' > $PGDATA/pg_hba.conf; exec postgres -c listen_addresses='*'"
    options = ("--name", "files", "--network", "office", "--network-alias", "db", "-p", f"{port}:5432")
    volume = "office-data:/var/lib/postgresql/data"
    host("run", "-d", *options, "-v", volume, "postgres:1", "sh", "-c", trust)
    try:
        with postgres(port) as ask:
            ask("CREATE TABLE letters (body text)")
            ask("INSERT INTO letters VALUES ('dear sir')")
        select = ("psql", "-h", "db", "-U", "postgres", "-tAc", "SELECT body FROM letters")
        second = ("run", "--rm", "--network", "office", "--entrypoint", "", "postgres:1", *select)
        assert host(*second).stdout == "dear sir\n"
        host("stop", "files")
        host("start", "files")
        with postgres(port) as ask:
            assert ask("SELECT body FROM letters") == ["dear sir"]
        address = host("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "files").stdout.strip()
        assert re.fullmatch(r"10(\.\d+){3}", address)
    finally:
        host("rm", "-f", "files", status=None)
        host("network", "rm", "office")
