"""What the name server of a container passes on, and to whom."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from dnslib import QTYPE, RR, A, DNSRecord

from tests.integration.network.conftest import Host

# Only root can be a name server.
pytestmark = pytest.mark.needs("root", "overlay", "user-namespaces", "seccomp", "slirp4netns")

# Of this process alone: tests run beside each other.
_OWN = f"127.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"
SERVER, SILENT = f"{_OWN}.77", f"{_OWN}.78"


@contextmanager
def name_server(address: str, count: int) -> Iterator[list[str]]:
    """Answers so many questions by udp or tcp with 192.0.2.99; gives the names that it was asked."""
    asked: list[str] = []

    def answered(data: bytes) -> bytes:
        query = DNSRecord.parse(data)
        asked.append(str(query.q.qname))
        reply = query.reply()
        if query.q.qtype == QTYPE.A:
            reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A("192.0.2.99"), ttl=5))
        return bytes(reply.pack())

    def by_udp() -> None:
        for _ in range(count):
            data, sender = udp.recvfrom(4096)
            udp.sendto(answered(data), sender)

    def by_tcp() -> None:
        connection, _ = tcp.accept()
        with connection:
            size = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))[0]
            reply = answered(connection.recv(size, socket.MSG_WAITALL))
            connection.sendall(struct.pack("!H", len(reply)) + reply)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in (udp, tcp):
            sock.bind((address, 53))
            sock.settimeout(30)
        tcp.listen()
        thread = threading.Thread(target=by_udp if count else by_tcp, daemon=True)
        thread.start()
        yield asked
        thread.join(30)


def run(host: Host, *words: str) -> str:
    # Nobody is at SILENT: the next one is asked.
    servers = ("--dns", SILENT, "--dns", SERVER)
    return host("run", "--rm", "--network", "n", *servers, "busybox", *words, status=None).text


def test_other_names_are_asked_of_the_servers_in_turn(host: Host) -> None:
    host("network", "create", "n")
    with name_server(SERVER, 1) as asked:
        assert "192.0.2.99" in run(host, "nslookup", "-type=a", "far.example.")
    assert asked == ["far.example."]


def test_each_question_is_asked_of_the_servers_given(host: Host) -> None:
    host("network", "create", "n")
    script = "for name in one two three; do nslookup -type=a $name.example.; done"
    with name_server(SERVER, 3) as asked:
        out = host("run", "--rm", "--network", "n", "--dns", SERVER, "busybox", "sh", "-c", script).stdout
    assert out.count("192.0.2.99") == 3
    assert asked == ["one.example.", "two.example.", "three.example."]


def test_a_question_by_tcp(host: Host) -> None:
    host("network", "create", "n")
    query = DNSRecord.question("far.example").pack()
    octal = "".join(f"\\{byte:03o}" for byte in struct.pack("!H", len(query)) + query)
    with name_server(SERVER, 0) as asked:
        out = run(host, "sh", "-c", f"(printf '{octal}'; sleep 1) | timeout 10 nc 127.0.0.11 53 | xxd -p")
    assert "c0000263" in out.replace("\n", "") and asked == ["far.example."]


def test_a_network_without_a_way_out_asks_nobody(host: Host) -> None:
    host("network", "create", "--internal", "n")
    out = run(host, "nslookup", "-type=a", "far.example.")
    assert "NXDOMAIN" in out
