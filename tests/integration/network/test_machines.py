"""Networks on machines that lack something: a closed TUN device, no slirp4netns, no packet filter."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_py.network.private import TUN
from tests.integration.network.conftest import HIDDEN, Host, ask, free_port, listed, served, tun_node
from tests.integration.network.test_networks import say, way_out

pytestmark = pytest.mark.needs("root", "overlay", "user-namespaces", "seccomp", "slirp4netns", "pasta")

SERVE = served("nc -ll -p 7 -e cat", 7)


def test_the_tun_device_is_closed(host: Host, workshop: Path) -> None:
    if host.person.kind == "root":
        # Root may open it anyway.
        return
    host.mounts[TUN] = tun_node(workshop, 0o600)
    devices = host("run", "--rm", "busybox", "ls", "/sys/class/net")
    assert "containers share the host's network here" in devices.stderr and "chmod 0666" in devices.stderr
    assert "share the host" not in host("run", "--rm", "busybox", "true").stderr
    by_name = host("run", "--rm", "--network", "private", "busybox", "true", status=125)
    assert f"a private network needs {TUN}" in by_name.stderr
    port = free_port()
    with host.running("-p", f"{port}:7", "busybox", "sh", "-c", SERVE):
        assert ask(port, b"hello") == b"hello"
    host("network", "create", "shop")
    with host.running("--network", "shop", "--name", "db", "busybox", "sh", "-c", SERVE):
        assert say(host, "shop", "db") == "hello\n"
    told = host("run", "--rm", "--network", "shop", "busybox", "true").stderr
    assert "networks have no way out" in told


def test_pasta_in_the_place_of_slirp4netns(host: Host) -> None:
    if host.person.kind == "root":
        # pasta gives its privileges up, and with them the right to enter the namespace.
        return
    host.mounts["/usr/bin/slirp4netns"] = HIDDEN
    assert way_out(host, "--network", "private")
    host("network", "create", "shop")
    assert way_out(host, "--network", "shop")


def libnftables() -> str:
    (line,) = (line for line in listed("ldconfig", "-p") if "libnftables.so.1 " in line)
    return line.split("=> ")[1]


@pytest.mark.parametrize("hidden", [["nft"], ["nft", "iptables-restore"]])
def test_the_packet_filter(host: Host, hidden: list[str]) -> None:
    for name in hidden:
        host.mounts[f"/usr/sbin/{name}"] = HIDDEN
    host.mounts[libnftables()] = HIDDEN
    host("network", "create", "shop")
    assert way_out(host, "--network", "shop") is (hidden == ["nft"])
    with host.running("--network", "shop", "--name", "db", "busybox", "sh", "-c", SERVE):
        assert say(host, "shop", "db") == "hello\n"
