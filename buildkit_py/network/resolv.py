"""What a sandbox finds in /etc/hosts and /etc/resolv.conf (hosts(5), resolv.conf(5))."""

from __future__ import annotations

import _socket
import os
from collections.abc import Sequence

from buildkit_py.errors import NetworkError
from buildkit_py.linux import smallfiles

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

SLIRP_ADDRESS, SLIRP_GATEWAY = "10.0.2.100", "10.0.2.2"
"""Of a private network, by slirp4netns or pasta."""
SLIRP_NAMESERVER = "10.0.2.3"
"""Where the private network's own resolver listens (slirp4netns and pasta are both told so)."""
_STUB = "/run/systemd/resolve/resolv.conf"
"""What systemd-resolved asks itself, where /etc/resolv.conf names its stub on the loopback."""


def hosts_text(
    hostname: str,
    extra: Sequence[tuple[str, str]] = (),
    *,
    addresses: Sequence[str] = (),
    domain: str = "",
    text: str = _HOSTS,
) -> str:
    """/etc/hosts for a sandbox: ``text``, and ``extra``, the (name, address) pairs of --add-host.

    The sandbox's own name stands for its ``addresses``; without any, for the network may be the host's, it is
    an alias of the loopback.
    """
    lines = [text if text.endswith("\n") else f"{text}\n"]
    lines += [f"{address}\t{name}\n" for name, address in extra]
    known = {name for name, _ in extra}.union(*(line.partition("#")[0].split() for line in text.splitlines()))
    if hostname and hostname not in known:
        names = f"{hostname}.{domain} {hostname}" if domain else hostname
        lines += [f"{address}\t{names}\n" for address in addresses or ("127.0.0.1",)]
    return "".join(lines)


def with_gateway(hosts: Sequence[tuple[str, str]], *, shared: bool) -> Sequence[tuple[str, str]]:
    """--add-host's pairs, ``host-gateway`` replaced by an address of this machine; its loopback where the
    network is shared."""
    if not any(address == "host-gateway" for _, address in hosts):
        return hosts
    gateway = "127.0.0.1" if shared else own_address()
    return tuple((name, gateway if address == "host-gateway" else address) for name, address in hosts)


def own_address() -> str:
    """The address by which this machine talks to others. Raises NetworkError where it has none."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        # A datagram socket sends nothing when it is connected; it learns its route.
        sock.connect(("192.0.2.1", 9))
        return str(sock.getsockname()[0])
    except OSError as e:
        raise NetworkError(
            f"host-gateway: this machine has no address that a container could reach: {e.strerror}",
            hint="give the address itself: --add-host NAME:ADDRESS",
        ) from e
    finally:
        sock.close()


def host_hosts(path: str = "/etc/hosts") -> str:
    """The names that the host knows by itself, for a container on its network, as with docker. Those that are
    always there, where it has none."""
    try:
        return smallfiles.read(path) or _HOSTS
    except (OSError, UnicodeDecodeError):
        return _HOSTS


def resolv_text(network: str, path: str = "/etc/resolv.conf") -> str:
    """/etc/resolv.conf for a sandbox on ``network`` (host, private or none).

    With the host's network it is the host's. In a private one the host's loopback is out of reach: a
    nameserver there is replaced by systemd-resolved's real ones, or by the network's own resolver.
    """
    if network == "none":
        return "# no network\n"
    text = smallfiles.read(path)
    if network == "host":
        return text
    kept, servers = _split(text)
    if not any(map(_reachable, servers)):
        kept, servers = _split(smallfiles.read(_STUB)) if os.path.exists(_STUB) else (kept, [])
    servers = list(filter(_reachable, servers)) or [SLIRP_NAMESERVER]
    return "".join(f"{line}\n" for line in [*kept, *(f"nameserver {server}" for server in servers)])


def given_resolv_text(
    text: str, servers: Sequence[str], search: Sequence[str], options: Sequence[str]
) -> str:
    """``text`` with what --dns, --dns-search and --dns-option say in the place of its own lines.

    ``--dns-search .`` is for no search at all.
    """
    kept, present = _split(text)
    if search:
        kept = [line for line in kept if line.split()[0] not in ("search", "domain")]
        wanted = [domain for domain in search if domain != "."]
        kept += ["search " + " ".join(wanted)] if wanted else []
    if options:
        kept = [line for line in kept if line.split()[0] != "options"] + ["options " + " ".join(options)]
    return "".join(f"{line}\n" for line in [*kept, *(f"nameserver {s}" for s in servers or present)])


def names_resolv(server: str) -> str:
    """The resolv.conf of a container on networks: the host's domains, our name server."""
    text = given_resolv_text(resolv_text("host"), (server,), (), ())
    return text if "options" in text else text + "options ndots:0\n"


def nameservers(text: str) -> list[str]:
    """The servers that a resolv.conf(5) names."""
    return _split(text)[1]


def _split(text: str) -> tuple[list[str], list[str]]:
    """The lines that are no comments and name no server, and the servers."""
    kept, servers = [], []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            servers += words[1:2]
        else:
            kept.append(line)
    return kept, servers


def _reachable(server: str) -> bool:
    return not server.startswith(("127.", "::1", "0.0.0.0"))
