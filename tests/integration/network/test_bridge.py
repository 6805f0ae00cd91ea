"""Root's containers: the network bridge by default, and the kernel's own path to the host and the world."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from buildkit_py.network import client, uplink
from tests.integration.network.conftest import HIDDEN, Host, ask, free_port, served
from tests.support import leaks
from tests.support.containers import supervisor_of
from tests.support.machine import Machine, Namespace

pytestmark = pytest.mark.needs("root", "overlay", "ip", "nft", "iptables", "nsenter")

SERVE = served("nc -ll -p 7 -e cat", 7)


def inspect(host: Host, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(host("inspect", "-f", "{{json .NetworkSettings}}", name).stdout)
    return found


def test_the_default_is_the_network_bridge(root_host: Host) -> None:
    host = root_host
    with (
        host.running("--name", "a", "busybox", "sh", "-c", SERVE),
        host.running("--name", "b", "busybox", "sh", "-c", SERVE),
    ):
        settings = {name: inspect(host, name) for name in "ab"}
        addresses = {name: str(settings[name]["IPAddress"]) for name in "ab"}
        assert len(set(addresses.values())) == 2
        (network,) = json.loads(host("network", "inspect", "bridge").stdout)
        assert network["Driver"] == "bridge" and network["Name"] == "bridge"
        there = {c["Name"]: c["IPv4Address"].partition("/")[0] for c in network["Containers"].values()}
        assert there == addresses
        for name in "ab":
            assert settings[name]["Gateway"] == network["IPAM"]["Config"][0]["Gateway"]
            endpoint = settings[name]["Networks"]["bridge"]  # type: ignore[index]
            assert endpoint["IPAddress"] == addresses[name] and endpoint["NetworkID"] == network["Id"]
        # This machine reaches them, and they each other.
        assert ask(7, b"hello", addresses["a"]) == b"hello"
        own = host("exec", "a", "ip", "-4", "-o", "addr", "show", "eth0").stdout
        assert f"inet {addresses['a']}/" in own
        assert host("exec", "a", "sh", "-c", f"echo hi | nc {addresses['b']} 7").stdout == "hi\n"
        assert "bridge" in host("network", "ls", "--format", "{{.Name}} {{.Subnet}}").stdout


def test_the_gateway_is_this_machine(root_host: Host) -> None:
    host = root_host
    port = free_port()
    with socket.socket() as everywhere, socket.socket() as loopback:
        everywhere.bind(("0.0.0.0", 0))
        loopback.bind(("127.0.0.1", 0))
        for server in (everywhere, loopback):
            server.listen()
            server.setblocking(False)
        with host.running("-p", f"{port}:7", "busybox", "sh", "-c", SERVE):
            gateway = "$(ip route | awk '/default/ {print $3}')"
            tries = (
                f"echo hello | nc {gateway} {port}",
                f"timeout 2 nc {gateway} {loopback.getsockname()[1]} </dev/null",
                f"timeout 2 nc {gateway} {everywhere.getsockname()[1]} </dev/null",
                # Or nc would be process 1, which no signal ends.
                "true",
            )
            # A port that another container publishes, too.
            out = host("run", "--rm", "busybox", "sh", "-c", "; ".join(tries), status=None).stdout
        assert out == "hello\n"
        connection, (address, _) = everywhere.accept()
        connection.close()
        assert address.startswith(("10.", "172.", "192.168."))
        with pytest.raises(BlockingIOError):
            loopback.accept()


def test_internal_networks_reach_nothing(root_host: Host) -> None:
    host = root_host
    host("network", "create", "--internal", "n")
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        server.setblocking(False)
        port = server.getsockname()[1]
        networks = json.loads(host("network", "inspect", "n", "bridge").stdout)
        gateway, other = (network["IPAM"]["Config"][0]["Gateway"] for network in networks)
        tries = (
            "; ".join(f"timeout 1 nc {address} {port} </dev/null" for address in (gateway, other)) + "; true"
        )
        host("run", "--rm", "--network", "n", "busybox", "sh", "-c", tries, status=None)
        with pytest.raises(BlockingIOError):
            server.accept()
    with host.running("--network", "n", "--name", "c", "busybox", "sh", "-c", SERVE):
        networks = inspect(host, "c")["Networks"]
        assert ask(7, b"hello", networks["n"]["IPAddress"]) == b"hello"  # type: ignore[index]


# On a machine of the test's own.


@pytest.fixture
def machine(root_host: Host) -> Iterator[Machine]:
    # The registry is out of reach from there.
    root_host("pull", "-q", "busybox")
    made = Machine()
    program = root_host.program
    root_host.program = program._replace(argv=(*made.enter, *program.argv))
    try:
        yield made
    finally:
        root_host.program = program
        made.close()


def reaches(host: Host, machine: Machine, *options: str) -> str:
    """The address by which a container came to a server outside the machine; "" where it didn't."""
    with machine.outside.within(socket.socket) as server:
        server.bind((machine.OUTSIDE, 0))
        server.listen()
        port = server.getsockname()[1]
        script = f"echo hello | timeout 20 nc {machine.OUTSIDE} {port}"
        with host.start("run", "--rm", *options, "busybox", "sh", "-c", script) as process:
            ends = os.pidfd_open(process.pid)
            ready, _, _ = select.select([server.fileno(), ends], [], [], 60)
            os.close(ends)
            address = ""
            if server.fileno() in ready:
                connection, (address, _) = server.accept()
                with connection:
                    assert connection.recv(100) == b"hello\n"
            process.communicate(timeout=60)
    return address


def pings(source: Namespace, target: str) -> bool:
    """Whether an echo comes back."""
    argv = [*source.enter, "busybox", "ping", "-c1", "-W1", target]
    return subprocess.run(argv, capture_output=True).returncode == 0


def test_the_way_out_of_a_machine_that_does_not_forward(root_host: Host, machine: Machine) -> None:
    host = root_host
    assert reaches(host, machine) == machine.ADDRESS
    with host.running("--name", "c", "busybox", "sh", "-c", SERVE):
        address = str(inspect(host, "c")["IPAddress"])
        assert machine.get("net.ipv4.ip_forward") == "0"
        assert machine.get("net.ipv4.conf.m0.forwarding") == "1"
        assert pings(machine, address)
        # It does not become a router for others, nor a way in.
        assert not pings(machine.outside, machine.NEIGHBOUR)
        assert not pings(machine.outside, address)
        # Until somebody makes one of it.
        machine.set("net.ipv4.ip_forward", "1")
        assert soon(lambda: pings(machine.outside, machine.NEIGHBOUR))
        assert not pings(machine.outside, address)
    # What is on now is the machine's own.
    assert soon(lambda: "pybuild" not in str(machine.state()))
    assert machine.get("net.ipv4.conf.m0.forwarding") == "1"


def soon(holds: Callable[[], bool]) -> bool:
    return leaks.patiently(lambda: frozenset() if holds() else frozenset({"not yet"}), frozenset()) == []


@pytest.mark.parametrize("victims", ["none", "holder", "supervisor", "forwarder", "all"])
def test_nothing_is_left_behind(root_host: Host, machine: Machine, victims: str) -> None:
    host = root_host
    before = machine.state()
    with host.running("--name", "c", "busybox", "sh", "-c", SERVE) as process:
        assert machine.state() - before
        supervisor = supervisor_of(host, "c")
        processes = {
            "none": [],
            "holder": [holder_of(host)],
            "supervisor": [supervisor],
            "forwarder": forwarders_of(supervisor),
        }
        everyone = [pid for pids in processes.values() for pid in pids]
        fds = [os.pidfd_open(pid) for pid in processes.get(victims, everyone)]
        for fd in fds:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
        if victims == "holder":
            # Another one takes the container over, with all that it had.
            address = str(inspect(host, "c")["IPAddress"])
            assert soon(lambda: pings(machine, address))
            assert machine.get("net.ipv4.conf.m0.forwarding") == "1"
        if victims in ("supervisor", "all"):
            process.wait(10)
    if victims == "all":
        # Nobody is there to turn forwarding off; the next to come does.
        host("run", "--rm", "busybox", "true")
    assert leaks.patiently(lambda: machine.state() - before, frozenset()) == []
    assert before - machine.state() == frozenset()


def holder_of(host: Host) -> int:
    link = client.find(str(host.store))
    assert link is not None
    try:
        pid: int = link.ask("hello")["pid"]
        return pid
    finally:
        link.close()


def forwarders_of(supervisor: int) -> list[int]:
    """Its children in another network namespace."""
    ours = os.stat(f"/proc/{supervisor}/ns/net").st_ino
    found: list[int] = []

    def look() -> bool:
        # The kernel leaves some out where another child ends meanwhile (proc_pid_task(5)).
        with open(f"/proc/{supervisor}/task/{supervisor}/children") as f:
            children = [int(pid) for pid in f.read().split()]
        found[:] = [pid for pid in children if _network_of(pid) not in (0, ours)]
        return bool(found)

    assert soon(look)
    return found


def _network_of(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def test_a_firewall_that_drops_what_it_does_not_know(root_host: Host, machine: Machine) -> None:
    host = root_host
    machine.run("iptables", "-P", "FORWARD", "DROP")
    before = machine.state()
    assert reaches(host, machine) == machine.ADDRESS
    assert leaks.patiently(lambda: machine.state() - before, frozenset()) == []
    # One that takes no rules of ours: as before, by slirp4netns, and it is said once.
    machine.run("iptables", "-P", "FORWARD", "ACCEPT")
    machine.run(
        "nft",
        "add table inet guard; add chain inet guard f { type filter hook forward priority 0; policy drop; }",
    )
    told = host("run", "--rm", "busybox", "true").stderr
    assert "can't reach containers by their address: the table inet guard" in told
    assert host("run", "--rm", "busybox", "true").stderr == ""
    assert reaches(host, machine) == machine.ADDRESS


def test_a_subnet_that_the_machine_has_already(root_host: Host, machine: Machine) -> None:
    host = root_host
    host("network", "create", "--subnet", "10.77.7.0/24", "n")
    machine.run("ip", "route", "add", "10.77.0.0/16", "dev", "p0")
    told = host("run", "--rm", "--network", "n", "busybox", "true").stderr
    assert "has a route to 10.77.0.0/16 already" in told
    assert reaches(host, machine, "--network", "n") == machine.ADDRESS
    assert "10.77.7.0/24" not in machine.run("ip", "route")


def test_two_stores_at_once(root_host: Host, machine: Machine, another_root_host: Host) -> None:
    one, two = root_host, another_root_host
    two("pull", "-q", "busybox")
    two.program = one.program
    before = machine.state()
    with one.running("--name", "a", "busybox", "sh", "-c", SERVE):
        assert reaches(two, machine) == machine.ADDRESS
        first = uplink.host_device(str(one.store / "network"))
        assert soon(lambda: machine.run("ip", "-o", "link").count("pybuild") == 1)
        assert first in machine.run("ip", "-o", "link")
        # The other's end does not turn off what this one needs.
        assert machine.get("net.ipv4.conf.m0.forwarding") == "1"
        assert pings(machine, str(inspect(one, "a")["IPAddress"]))
    assert leaks.patiently(lambda: machine.state() - before, frozenset()) == []


def test_without_nft(root_host: Host) -> None:
    host = root_host
    host.mounts["/usr/sbin/nft"] = HIDDEN
    first = host("run", "--rm", "busybox", "ip", "-4", "-o", "addr", "show", "eth0")
    assert (
        "10.0.2.100" in first.stdout
        and "bridge is not the default here: nft is not installed" in first.stderr
    )
    assert host("run", "--rm", "busybox", "true").stderr == ""


def test_settings_that_cannot_be_written(root_host: Host, machine: Machine) -> None:
    host = root_host
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    host.program = host.program._replace(argv=("unshare", "-m", "sh", "-c", script, "sh", *host.program.argv))
    before = machine.state()
    told = host("run", "--rm", "busybox", "true").stderr
    assert "bridge is not the default here: net.ipv4.ip_forward is 0, and /proc/sys can't be written" in told
    assert reaches(host, machine) == machine.ADDRESS
    host("network", "create", "n")
    told = host("run", "--rm", "--network", "n", "busybox", "true").stderr
    assert "can't reach containers by their address: net.ipv4.ip_forward is 0" in told
    assert machine.state() == before
