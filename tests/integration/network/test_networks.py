"""Networks of the user's, on which containers find each other by name."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time

import pytest

from buildkit_py.network import client
from tests.integration.network.conftest import Host, ask, free_port, served
from tests.support.containers import supervisor_of

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp", "slirp4netns")

SERVE = served("nc -ll -p 7 -e cat", 7)


def say(host: Host, network: str, name: str, *options: str) -> str:
    """What a container on ``network`` hears from port 7 of ``name`` when it says "hello"."""
    look = f"nslookup {name} | awk '/^Address/ && !/:53/ {{print $2}}'"
    script = f"""
        end=$(($(date +%s) + 10))
        # Without an address nc would take "7" for one.
        until ip=$({look}) && [ -n "$ip" ] && out=$(echo hello | timeout 2 nc $ip 7) && [ -n "$out" ]; do
            [ $(date +%s) -lt $end ] || exit 1
        done
        echo "$out"
    """
    return host(
        "run", "--rm", "--network", network, *options, "busybox", "sh", "-c", script, timeout=60
    ).stdout


def test_two_containers_by_name_and_alias(host: Host) -> None:
    host("network", "create", "shop")
    host("network", "create", "other")
    with host.running(
        "--network", "shop", "--name", "db", "--network-alias", "store", "busybox", "sh", "-c", SERVE
    ):
        assert say(host, "shop", "db") == "hello\n"
        assert say(host, "shop", "store") == "hello\n"
        host("rename", "db", "till")
        assert say(host, "shop", "till") == "hello\n"
        host("rename", "till", "db")
        there = json.loads(host("network", "inspect", "shop").stdout)[0]["Containers"]
        (member,) = there.values()
        assert member["Name"] == "db"
        ip = member["IPv4Address"].partition("/")[0]
        # A network apart: neither by name nor by address.
        script = f"nslookup db; echo hello | timeout 1 nc {ip} 7"
        apart = host("run", "--rm", "--network", "other", "busybox", "sh", "-c", script, status=None)
        assert "hello" not in apart.stdout and ip not in apart.stdout
        assert "has containers on it: db" in host("network", "rm", "shop", status=1).stderr
    host("network", "rm", "shop", "other")


def test_a_published_port_on_a_network(host: Host) -> None:
    host("network", "create", "shop")
    port = free_port()
    with host.running("--network", "shop", "-p", f"{port}:7", "--name", "web", "busybox", "sh", "-c", SERVE):
        assert ask(port, b"hello") == b"hello"
        assert host("port", "web").stdout.splitlines()[0] == f"7/tcp -> 0.0.0.0:{port}"


def test_connect_and_disconnect_while_it_runs(host: Host) -> None:
    host("network", "create", "one")
    host("network", "create", "--subnet", "10.123.5.0/24", "two")
    with host.running("--network", "one", "--name", "db", "busybox", "sh", "-c", SERVE):
        host("network", "connect", "--alias", "store", "--ip", "10.123.5.77", "two", "db")
        assert say(host, "two", "store") == "hello\n"
        assert "10.123.5.77/24" in host("network", "inspect", "two").stdout
        host("network", "disconnect", "two", "db")
        assert json.loads(host("network", "inspect", "two").stdout)[0]["Containers"] == {}
        assert (
            "hello"
            not in host("run", "--rm", "--network", "two", "busybox", "nslookup", "store", status=None).stdout
        )
        assert say(host, "one", "db") == "hello\n"


def test_a_container_without_networks_is_connected_again(host: Host) -> None:
    host("network", "create", "one")
    host("network", "create", "two")
    port = free_port()
    with host.running("--network", "one", "-p", f"{port}:7", "--name", "web", "busybox", "sh", "-c", SERVE):
        assert ask(port, b"hello") == b"hello"
        host("network", "connect", "two", "web")
        host("network", "disconnect", "one", "web")
        assert ask(port, b"hello") == b"hello", "by its address on the other network"
        host("network", "disconnect", "two", "web")
        host("network", "connect", "one", "web")
        assert ask(port, b"hello") == b"hello"
        assert say(host, "one", "web.one") == "hello\n"
        for name in ("host", "none"):
            refused = host("network", "connect", name, "web", status=1).stderr
            assert f"can't be on the network {name}" in refused


def test_addresses(host: Host) -> None:
    host("network", "create", "--subnet", "10.123.6.0/24", "--gateway", "10.123.6.9", "n")
    run = ("run", "--rm", "--network", "n", "--ip", "10.123.6.50", "--mac-address", "02:00:00:00:00:07")
    out = host(*run, "busybox", "sh", "-c", "ip -4 addr show eth0; ip link show eth0; ip route").stdout
    assert "inet 10.123.6.50/24" in out and "02:00:00:00:00:07" in out and "default via 10.123.6.9" in out
    assert (
        "can't be a container's address"
        in host("run", "--rm", "--network", "n", "--ip", "10.9.9.9", "busybox", "true", status=125).stderr
    )
    assert "overlaps" in host("network", "create", "--subnet", "10.123.0.0/16", "m", status=1).stderr


def test_another_containers_network(host: Host) -> None:
    with host.running("--network", "private", "--name", "a", "busybox", "sh", "-c", SERVE):
        shared = ("run", "--rm", "--network", "container:a", "busybox", "sh", "-c")
        assert host(*shared, "echo hello | nc 127.0.0.1 7; hostname").stdout.startswith("hello\n")
        for option in ("-p=80", "-P", "--expose=80", "--dns-search=a", "--ip=10.0.0.1", "--network-alias=b"):
            refused = host("run", "--network", "container:a", option, "busybox", "true", status=125).stderr
            assert "a container on another's network has that one's" in refused, option
        assert host("ps", "-aq").stdout.count("\n") == 1
    assert "no such container" in host(*shared, "true", status=125).stderr


def test_another_containers_network_after_that_was_started_anew(host: Host) -> None:
    host("network", "create", "n")
    look = ("exec", "b", "cat", "/sys/class/net/eth0/address")
    try:
        host("run", "-d", "--name", "a", "--network", "n", "busybox", "sleep", "600")
        host("run", "-d", "--name", "b", "--network", "container:a", "busybox", "sleep", "600")
        host("stop", "-t", "0", "a")
        host("start", "a")
        assert host(*look, status=None).status, "it is where a was"
        host("restart", "-t", "0", "b")
        assert host(*look).stdout == host("exec", "a", "cat", "/sys/class/net/eth0/address").stdout
    finally:
        host("rm", "-f", "a", "b")


def test_a_container_of_a_network_that_was_removed(host: Host) -> None:
    for name in ("never", "ran"):
        host("network", "create", "gone")
        host("create", "--name", name, "--network", "gone", "busybox", "ls", "/sys/class/net")
        if name == "ran":
            host("start", "-a", name)
        host("network", "rm", "gone")
        host("network", "create", name)
        assert "no such network: gone" in host("start", name, status=1).stderr
        host("network", "connect", name, name)
        assert host("start", "-a", name).stdout == "eth0\nlo\n"


def test_listing(host: Host) -> None:
    host("network", "create", "--label", "team=a", "--internal", "n")
    assert host("network", "ls", "--format", "{{.Name}} {{.Driver}}").stdout.splitlines() == [
        "bridge bridge",
        "n bridge",
        "host host",
        "none null",
        "private private",
    ]
    assert host("network", "ls", "-f", "label=team=a", "--format", "{{.Internal}}").stdout == "true\n"
    assert (
        host("network", "ls", "--format", '{{.Name}} {{.Label "team"}}', "-f", "type=custom").stdout
        == "n a\n"
    )
    assert host("network", "ls", "-f", "name=nothing", "-q").stdout == ""
    assert "not understood" in host("network", "ls", "-f", "type=nothing", status=2).stderr
    for name, driver in (("host", "host"), ("none", "null")):
        assert host("network", "inspect", "-f", "{{.Name}} {{.Driver}}", name).stdout == f"{name} {driver}\n"
        id = host("network", "ls", "-q", "--no-trunc", "-f", f"driver={driver}").stdout.strip()
        assert host("network", "inspect", "-f", "{{.Id}}", name).stdout == f"{id}\n"
    assert "already" in host("network", "create", "n", status=1).stderr
    assert host("network", "prune", "-f").stdout == "Deleted Networks:\nn\n"
    assert "no such network" in host("network", "inspect", "n", status=1).stderr
    assert "no such network" in host("run", "--rm", "--network", "n", "busybox", "true", status=125).stderr


def test_events(host: Host) -> None:
    host("network", "create", "one")
    host("network", "create", "two")
    with host.running("--network", "one", "--name", "db", "busybox", "sh", "-c", SERVE):
        host("network", "connect", "two", "db")
        host("network", "disconnect", "two", "db")
    host("network", "rm", "one")
    host("network", "prune", "-f")
    now = ("events", "--since", "1h", "--until", "0s", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    two = ["create two", "connect two", "disconnect two", "destroy two"]
    assert host(*now, "-f", "network=two").stdout.splitlines() == two
    one = ["create one", "connect one", "disconnect one", "destroy one"]
    assert host(*now, "-f", "type=network", "-f", "network=one").stdout.splitlines() == one


def test_options_of_networks(host: Host) -> None:
    mtu = "com.docker.network.driver.mtu"
    host("network", "create", "--attachable", "--scope=local", "-o", f"{mtu}=1234", "n")
    assert (
        host("run", "--rm", "--network", "n", "busybox", "cat", "/sys/class/net/eth0/mtu").stdout == "1234\n"
    )
    assert json.loads(host("network", "inspect", "n").stdout)[0]["Options"] == {mtu: "1234"}
    host("network", "rm", "n")
    refused = {
        f"--opt={mtu}=x": (1, "not a number from 68"),
        "--opt=com.docker.network.bridge.name=br0": (1, "bridge.name=br0 is not done"),
        "--subnet=10.1.0.0/24 --subnet=10.2.0.0/24": (2, "one IPv4 subnet"),
        "--ipv4=false": (2, "one IPv4 subnet"),
        "--scope=swarm": (2, "--scope is local"),
    }
    for options, (status, message) in refused.items():
        assert message in host("network", "create", *options.split(), "n", status=status).stderr
    host("network", "create", "n")
    assert json.loads(host("network", "inspect", "n").stdout)[0]["Options"] == {}


def own_address() -> str:
    """An address of this machine that is no loopback; "" where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = sock.getsockname()[0]
        return address


def way_out(host: Host, *options: str) -> bool:
    """Whether a container reaches a server on an address of this machine."""
    address = own_address()
    if not address:
        pytest.fail("this machine has no address but the loopback's")
    with socket.socket() as server:
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        script = f"echo hello | timeout 5 nc {address} {port}"
        with host.start("run", "--rm", *options, "busybox", "sh", "-c", script) as process:
            ends = os.pidfd_open(process.pid)
            ready, _, _ = select.select([server.fileno(), ends], [], [], 60)
            os.close(ends)
            heard = b""
            if server.fileno() in ready:
                connection, _ = server.accept()
                with connection:
                    heard = connection.recv(100)
            process.communicate(timeout=60)
    assert heard in (b"", b"hello\n")
    return bool(heard)


@pytest.mark.parametrize("internal", [False, True])
def test_the_way_out(host: Host, internal: bool) -> None:
    host("network", "create", *(["--internal"] if internal else []), "n")
    assert way_out(host, "--network", "n") is not internal


def holder(host: Host) -> tuple[int, list[str]]:
    """The pid of the network holder, and the containers that it has; (0, []) where there is none."""
    link = client.find(str(host.store))
    if link is None:
        return 0, []
    try:
        told = link.ask("state")["containers"]
        return link.ask("hello")["pid"], [container["name"] for container in told]
    finally:
        link.close()


def ended(fd: int) -> None:
    """The holder (a pidfd, closed here) ends with its last container."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    gone = poll.poll(5000)
    os.close(fd)
    assert gone, "the holder outlives its last container"


def test_the_holder_is_killed(host: Host) -> None:
    host("network", "create", "shop")
    with host.running("--network", "shop", "--name", "db", "busybox", "sh", "-c", SERVE):
        first, _ = holder(host)
        fd = os.pidfd_open(first)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            # The forwarder of db sees to a new one, and db is on it again.
            end = time.monotonic() + 10
            while holder(host)[1] != ["db"] or holder(host)[0] == first:
                assert time.monotonic() < end, holder(host)
            assert say(host, "shop", "db") == "hello\n"
            # Its place is the host's network, as that of the first.
            assert way_out(host, "--network", "shop")
        finally:
            os.close(fd)
        fd = os.pidfd_open(holder(host)[0])
    ended(fd)


def test_the_holder_ends_though_another_one_was_about_to_be_started(host: Host) -> None:
    """Who finds that there is one lets the lock go, and connects to nothing."""
    host("network", "create", "shop")
    with host.running("--network", "shop", "--name", "db", "busybox", "sh", "-c", SERVE):
        fd = os.pidfd_open(holder(host)[0])
        lock = client._lock(client.folder_of(str(host.store)))
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert not poll.poll(500), "it does not mind the lock"
    os.close(lock)
    ended(fd)


def test_the_supervisor_is_killed(host: Host) -> None:
    host("network", "create", "shop")
    options = ("--name", "c", "--network", "shop", "-p", "127.0.0.1::7")
    with host.running(*options, "busybox", "sh", "-c", SERVE) as process:
        fd = os.pidfd_open(holder(host)[0])
        os.kill(supervisor_of(host, "c"), signal.SIGKILL)
        process.wait(10)
        ended(fd)


def test_many_at_once(host: Host) -> None:
    host("network", "create", "n")
    command = ("run", "--rm", "--network", "n", "busybox", "ip", "-4", "addr", "show", "eth0")
    started = [host.start(*command) for _ in range(6)]
    outs = [process.communicate(timeout=60) for process in started]
    for process, (out, err) in zip(started, outs, strict=True):
        assert process.returncode == 0 and "inet 10." in out, (out, err)


def test_a_restart_keeps_networks_and_names(host: Host) -> None:
    host("network", "create", "one")
    host("network", "create", "two")
    options = ("-d", "--name", "db", "--network", "one", "--network-alias", "store")
    host("run", *options, "busybox", "sh", "-c", SERVE)
    try:
        host("network", "connect", "--alias", "depot", "two", "db")
        host("restart", "-t", "1", "db")
        assert say(host, "one", "store") == "hello\n"
        host("stop", "-t", "1", "db")
        assert host("network", "inspect", "-f", "{{json .Containers}}", "one").stdout == "{}\n"
        host("start", "db")
        assert say(host, "one", "store") == "hello\n"
        assert say(host, "two", "depot") == "hello\n"
        networks = host("inspect", "-f", "{{json .NetworkSettings.Networks}}", "db").stdout
        assert sorted(json.loads(networks)) == ["one", "two"]
        host("stop", "-t", "1", "db")
        host("network", "disconnect", "one", "db")
        host("start", "db")
        assert say(host, "two", "depot") == "hello\n"
        assert host("ps", "--format", "{{.Networks}}").stdout == "two\n"
    finally:
        host("rm", "-f", "db")


def test_several_networks_at_once(host: Host) -> None:
    host("network", "create", "--internal", "inner")
    host("network", "create", "outer")
    script = "ip -4 -o addr show; ip route"
    networks = ("--network", "inner", "--network", "outer")
    out = host("run", "--rm", *networks, "busybox", "sh", "-c", script).stdout
    assert "eth0" in out and "eth1" in out
    outer = json.loads(host("network", "inspect", "outer").stdout)[0]["IPAM"]["Config"][0]["Gateway"]
    assert f"default via {outer} dev eth1" in out


def test_names_and_servers(host: Host) -> None:
    options = ("--hostname", "box", "--domainname", "lan", "--add-host", "far:192.0.2.7")
    more = ("--dns", "192.0.2.53", "--dns-search", "example.test", "--dns-option", "ndots:2")
    script = "hostname; cat /proc/sys/kernel/domainname /etc/hosts /etc/resolv.conf"
    out = host("run", "--rm", *options, *more, "busybox", "sh", "-c", script).stdout.splitlines()
    assert out[:2] == ["box", "lan"]
    assert "192.0.2.7\tfar" in out and any(line.endswith("\tbox.lan box") for line in out)
    # Root's default network has a name server of ours, which asks those.
    server = "127.0.0.11" if host.person.kind == "root" else "192.0.2.53"
    assert f"nameserver {server}" in out and "search example.test" in out and "options ndots:2" in out
    own = host("run", "--rm", "--add-host", "h:host-gateway", "busybox", "cat", "/etc/hosts").stdout
    assert f"{own_address()}\th" in own or "127.0.0.1\th" in own


def test_a_build_beside_a_service(host: Host) -> None:
    host("network", "create", "shop")
    look = "nslookup db | awk '/^Address/ && !/:53/ {print $2}'"
    run = f"RUN echo hello | timeout 5 nc $({look}) 7 > /answer && ! [ -e /sys/class/net/eth1 ]"
    context = host.context({"Dockerfile": f"FROM busybox\n{run}\nRUN --network=none ip link > /none\n"})
    with host.running("--network", "shop", "--name", "db", "busybox", "sh", "-c", SERVE):
        host("build", "-q", "--network", "shop", "-t", "built", context)
    assert host("run", "--rm", "built", "cat", "/answer").stdout == "hello\n"
    assert "eth0" not in host("run", "--rm", "built", "cat", "/none").stdout
    assert "no such network" in host("build", "--network", "nowhere", context, status=1).stderr


def test_a_build_knows_the_machine_by_a_name(host: Host) -> None:
    host("network", "create", "n")
    context = host.context({"Dockerfile": "FROM busybox\nRUN grep machine /etc/hosts\n"})
    for network, address in (("host", "127.0.0.1"), ("private", own_address()), ("n", own_address())):
        options = (
            "--no-cache",
            "--progress=plain",
            "--network",
            network,
            "--add-host",
            "machine=host-gateway",
        )
        out = host("build", *options, context).text
        assert f"{address}\tmachine" in out or f"{address} machine" in out, network


def test_the_hosts_loopback_is_out_of_reach(host: Host) -> None:
    host("network", "create", "--subnet", "10.123.7.0/24", "n")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        port = server.getsockname()[1]
        addresses = ("10.123.7.1", "10.0.2.2", "127.0.0.1")
        tries = "; ".join(f"timeout 1 nc {address} {port} </dev/null" for address in addresses)
        for network in ("n", "private", "none"):
            host("run", "--rm", "--network", network, "busybox", "sh", "-c", tries, status=None)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_udp_into_a_network(host: Host) -> None:
    host("network", "create", "n")
    port = free_port()
    script = served(
        "perl -MSocket -e 'socket(S,PF_INET,SOCK_DGRAM,17); bind(S,sockaddr_in(7,INADDR_ANY)); "
        "while ($a = recv(S,$d,65536,0)) { send(S,$d,0,$a) }'",
        7,
    )
    with (
        host.running("--network", "n", "-p", f"{port}:7/udp", "debian:12-slim", "sh", "-c", script),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(10)
        client.sendto(b"ping", ("127.0.0.1", port))
        assert client.recv(100) == b"ping"
