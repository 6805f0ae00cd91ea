"""Published ports: tcp and udp from this machine into a container, as each kind of user."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.network.conftest import Host, ask, free_port, served
from tests.support.containers import supervisor_of

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp", "slirp4netns")

UNPRIVILEGED = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
ECHO = served("nc -ll -p 7 -e cat", 7)
UDP_ECHO = served(
    "perl -MSocket -e 'socket(S,PF_INET,SOCK_DGRAM,17); bind(S,sockaddr_in(7,INADDR_ANY)); "
    "while ($a = recv(S,$d,65536,0)) { send(S,$d,0,$a) }'",
    7,
)


def test_a_port_is_reached_from_the_host(host: Host) -> None:
    port = free_port()
    with host.running("-p", f"{port}:7", "busybox", "sh", "-c", ECHO):
        assert ask(port, b"hello") == b"hello"
        assert ask(port, b"again") == b"again"
    with pytest.raises(OSError):
        ask(port)


def test_a_stream_arrives_whole(host: Host) -> None:
    port = free_port()
    data = os.urandom(4 << 20)
    serve = served("nc -l -p 7 | sha256sum", 7)
    with host.running("-p", f"127.0.0.1:{port}:7", "busybox", "sh", "-c", serve) as process:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(data)
        assert process.stdout is not None
        assert process.stdout.readline().split()[0] == hashlib.sha256(data).hexdigest()


def test_udp(host: Host) -> None:
    port = free_port()
    with (
        host.running("-p", f"{port}:7/udp", "debian:12-slim", "sh", "-c", UDP_ECHO),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(10)
        client.sendto(b"ping", ("127.0.0.1", port))
        assert client.recv(100) == b"ping"


def test_a_port_that_is_taken_is_an_error(host: Host) -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = host("run", "--rm", "-p", f"{port}:80", "busybox", "true", status=125)
        assert f"the host port *:{port}/tcp is taken" in done.stderr
    with host.running("-p", f"{port}:7", "--name", "first", "busybox", "sh", "-c", ECHO):
        done = host("run", "--rm", "-p", f"{port}:7", "busybox", "true", status=125)
        assert "is taken by the container first" in done.stderr


def test_port_tells_where(host: Host) -> None:
    tag = "exposing"
    context = host.context({"Dockerfile": "FROM busybox\nEXPOSE 7 9/udp\n"})
    host("build", "-q", "-t", tag, context)
    with host.running("-P", "--name", "c", tag, "sh", "-c", ECHO):
        lines = host("port", "c").stdout.splitlines()
        tcp = [line for line in lines if line.startswith("7/tcp -> 0.0.0.0:")]
        assert len(tcp) == 1 and any(line.startswith("9/udp -> 0.0.0.0:") for line in lines)
        where = host("port", "c", "7").stdout.splitlines()[0]
        assert tcp[0] == f"7/tcp -> {where}"
        assert ask(int(where.rpartition(":")[2]), b"x") == b"x"
        assert "no port 8/tcp" in host("port", "c", "8", status=1).stderr


def test_nothing_is_left_when_the_supervisor_is_killed(host: Host) -> None:
    port = free_port()
    with host.running("--name", "c", "-p", f"{port}:7", "busybox", "sh", "-c", ECHO) as process:
        assert ask(port, b"x") == b"x"
        os.kill(supervisor_of(host, "c"), signal.SIGKILL)
        process.wait(10)
    # What is left behind fails the test by itself (tests.support.leaks); the port is free again.
    with host.running("-p", f"{port}:7", "busybox", "sh", "-c", ECHO):
        assert ask(port, b"x") == b"x"


def test_an_address_of_the_host(host: Host) -> None:
    port = free_port()
    with host.running("-p", f"[::1]:{port}:7", "busybox", "sh", "-c", ECHO):
        assert ask(port, b"six", "::1") == b"six"
        with pytest.raises(ConnectionRefusedError):
            ask(port, b"four")
    gone = host("run", "--rm", "-p", "192.0.2.1:80:80", "busybox", "true", status=125)
    assert "192.0.2.1 is no address of this machine" in gone.stderr


def test_a_range_takes_the_first_port_that_is_free(host: Host) -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        first = holder.getsockname()[1]
        with host.running("-p", f"{first}-{first + 20}:7", "--name", "c", "busybox", "sh", "-c", ECHO):
            where = host("port", "c", "7/tcp").stdout.splitlines()[0]
            port = int(where.rpartition(":")[2])
            assert first < port <= first + 20 and ask(port, b"x") == b"x"


def test_ports_below_1024_are_roots(host: Host) -> None:
    if host.person.kind == "root" or int(Path(UNPRIVILEGED).read_text()) <= 70:
        return
    done = host("run", "--rm", "-p", "70:7", "busybox", "true", status=125)
    assert "the host port *:70/tcp is kept for root" in done.stderr
    assert "ip_unprivileged_port_start=70" in done.stderr
