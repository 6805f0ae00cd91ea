"""A real service: PostgreSQL from Debian packages, with a volume and a published port."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from tests.support.containers import state
from tests.support.people import Person
from tests.support.program import REPOSITORY
from tests.support.runner import Pybuild

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""PostgreSQL's protocol, "SSLRequest": a server without certificates answers N."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(SSL_REQUEST)
            return sock.recv(1) == b"N"
    except OSError:
        return False


def sql(pybuild: Pybuild, text: str) -> str:
    words = ("psql", "--no-align", "--tuples-only", "-c", text, "postgres")
    return pybuild("exec", "db", *words).stdout.strip()


def until_ready(pybuild: Pybuild) -> None:
    pybuild("exec", "db", "sh", "-c", "until pg_isready -q; do sleep 0.1; done", timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("each_identity", ["root", "ids"])
def test_postgres(
    each_identity: str, kept: Callable[[str], Pybuild], host_flags: Callable[[Person], list[str]]
) -> None:
    """Used from the machine and from inside, stopped, started, in another container: its data stays."""
    pybuild = kept(each_identity)
    context = pybuild.copy(REPOSITORY / "examples" / "Dockerfiles" / "postgres")
    pybuild("build", "-t", "db:1", *host_flags(pybuild.person), context)
    port = free_port()
    health = ("--health-cmd", "pg_isready -q", "--health-interval", "200ms", "--health-retries", "50")
    flags = ("--name", "db", "-p", f"127.0.0.1:{port}:5432", "-v", "db:/var/lib/postgresql/data")
    pybuild("run", "-d", *flags, *health, "db:1")
    try:
        until_ready(pybuild)
        assert answers(port)
        sql(pybuild, "create table kept (what text)")
        sql(pybuild, "insert into kept values ('first')")
        pybuild("stop", "db")
        assert state(pybuild, "db")["ExitCode"] == 0, pybuild("logs", "db").stderr
        assert "database system is shut down" in pybuild("logs", "db").stderr
        assert not answers(port)
        pybuild("start", "db")
        until_ready(pybuild)
        assert answers(port)
        assert sql(pybuild, "select what from kept") == "first"
        sql(pybuild, "insert into kept values ('second')")
        pybuild("restart", "db")
        until_ready(pybuild)
        pybuild("rm", "-f", "db")
        pybuild("run", "-d", *flags, "db:1")
        until_ready(pybuild)
        assert sql(pybuild, "select string_agg(what, ' ') from kept") == "first second"
    finally:
        pybuild("rm", "-f", "db", status=None)
    pybuild("volume", "rm", "db")
