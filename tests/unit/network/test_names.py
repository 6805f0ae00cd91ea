from __future__ import annotations

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from buildkit_py.network.names import answer, failure


class Shop:
    """A container on a network with ``db``."""

    def __init__(self, upstream: list[str]) -> None:
        self._upstream = upstream

    def lookup(self, name: str) -> list[str] | None:
        return ["10.89.0.2", "10.89.0.3"] if name == "db" else None

    def reverse(self, address: str) -> str:
        return "db.shop" if address == "10.89.0.2" else ""

    def servers(self) -> list[str]:
        return list(self._upstream)


def ask(name: str, kind: str = "A", upstream: tuple[str, ...] = ("192.0.2.1",)) -> DNSRecord | None:
    query = DNSRecord.question(name, kind)
    data = answer(query.pack(), Shop(list(upstream)))
    if data is None:
        return None
    reply = DNSRecord.parse(data)
    assert reply.header.id == query.header.id and reply.header.qr
    return reply


def test_a_container_by_name() -> None:
    for name in ("db", "DB", "db."):
        reply = ask(name)
        assert reply is not None
        assert [str(rr.rdata) for rr in reply.rr] == ["10.89.0.2", "10.89.0.3"]


def test_a_container_has_no_other_records() -> None:
    reply = ask("db", "AAAA")
    assert reply is not None and not reply.rr and reply.header.rcode == RCODE.NOERROR


def test_the_name_of_an_address() -> None:
    reply = ask("2.0.89.10.in-addr.arpa", "PTR")
    assert reply is not None and str(reply.rr[0].rdata) == "db.shop."
    assert ask("9.0.89.10.in-addr.arpa", "PTR") is None


def test_others_are_passed_on_or_unknown() -> None:
    assert ask("example.test") is None
    reply = ask("example.test", upstream=())
    assert reply is not None and reply.header.rcode == RCODE.NXDOMAIN


# 60 labels are taken apart, and can't be put together again.
LONG = DNSRecord.question("db").pack()[:12] + (b"\x3f" + b"a" * 63) * 60 + b"\0\0\1\0\1"


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 12, DNSRecord.question("db").reply().pack(), LONG])
def test_what_is_no_question(data: bytes) -> None:
    with pytest.raises(ValueError):
        answer(data, Shop([]))


def test_failure_is_an_answer_to_the_question() -> None:
    query = DNSRecord.question("example.test", "AAAA")
    reply = DNSRecord.parse(failure(query.pack()))
    assert reply.header.rcode == RCODE.SERVFAIL and reply.header.qr and reply.header.id == query.header.id
    assert reply.q.qtype == QTYPE.AAAA and str(reply.q.qname) == "example.test."
