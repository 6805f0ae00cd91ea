"""What may pass between the networks of a holder, the machine and the world, as rules of the kernel's packet
filter.

Written anew as a whole for each change, by libnftables or, in the holder's namespace, where that is missing,
by iptables-restore(8). Without both nothing passes at all: containers reach each other on their network, and
no further.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.errors import SandboxError
from buildkit_py.linux import nftables
from buildkit_py.linux.userns import find
from buildkit_py.tuples import NamedTuple

UPLINK = "up0"
HOST_DEVICES = "pybuild"
"""What the names of the host's ends of pairs begin with; one for each store."""
_ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}


class Rule(NamedTuple):
    """What a bridge may do."""

    device: str
    outward: bool
    """Reach the world."""
    gateway: str = ""
    hidden: bool = False
    """The host has no route to it: it is seen under the address of R."""


class Filter:
    """That of R. All in the thread that lives there."""

    def __init__(self) -> None:
        self._connection: nftables.Connection | None = None
        """Kept: to close one the kernel takes 10 ms."""

    def apply(self, rules: Sequence[Rule], host: str = "") -> bool:
        """Allow each bridge what it may; False where rules can't be.

        ``host`` is the address of the host's end of a pair, "" where the way out is none.
        """
        try:
            if self._connection is None:
                self._connection = nftables.Connection()
            self._connection.run(_inside(rules, host))
            return True
        except SandboxError:
            restore = find("iptables-restore")
            if host or not restore:
                return False
        import subprocess

        done = subprocess.run([restore], input=_iptables(rules).encode(), env=_ENV, capture_output=True)
        return done.returncode == 0


def _inside(rules: Sequence[Rule], host: str) -> str:
    forward = [
        "ct state established,related accept",
        # Within a bridge, where the kernel shows that to the filter (br_netfilter).
        *(f'iifname "{r.device}" oifname "{r.device}" accept' for r in rules),
        *(f'iifname "{r.device}" oifname "{UPLINK}" accept' for r in rules if r.outward),
    ]
    before, after = [], []
    if host:
        # What comes from there is the host's own: its rules drop all else. To the container it comes from the
        # gateway, as with a bridge on the host, so that every container can answer.
        forward.append(f'iifname "{UPLINK}" accept')
        after.append(f'iifname "{UPLINK}" masquerade')
        # The gateway's address stands for the host.
        before += [f'iifname "{r.device}" ip daddr {r.gateway} dnat to {host}' for r in rules if r.outward]
    after += [f'iifname "{r.device}" oifname "{UPLINK}" masquerade' for r in rules if r.hidden or not host]
    return _table(
        "pybuild",
        "",
        ("forward", "filter hook forward priority 0; policy drop", forward),
        ("prerouting", "nat hook prerouting priority -100", before),
        ("postrouting", "nat hook postrouting priority 100", after),
    )


def host_rules(device: str, forwarding: Sequence[str]) -> str:
    """Of the host: ``device`` is its end of the pair, ``forwarding`` are the devices that forward because of
    pybuild alone.

    The table is called as the device, and goes with the connection that makes it.
    """
    forward = [
        f'oifname "{device}" ct state established,related accept',
        # Neither the machine's neighbours nor containers on other bridges: as with docker, who wants to be
        # reached publishes ports.
        f'oifname "{device}" drop',
        *(f'iifname "{other}" oifname != "{HOST_DEVICES}*" drop' for other in forwarding),
    ]
    after = [f'iifname "{device}" masquerade']
    return _table(
        device,
        "flags owner;",
        ("forward", "filter hook forward priority 0; policy accept", forward),
        ("postrouting", "nat hook postrouting priority 100", after),
    )


def _table(name: str, flags: str, *chains: tuple[str, str, Sequence[str]]) -> str:
    lines = [f"table ip {name} {{ {flags} }}", f"delete table ip {name}", f"table ip {name} {{", flags]
    for chain, hook, rules in chains:
        if rules:
            lines += [f"chain {chain} {{", f"type {hook};", *rules, "}"]
    return "\n".join([*lines, "}"]) + "\n"


def _iptables(rules: Sequence[Rule]) -> str:
    lines = [
        "*filter",
        ":FORWARD DROP [0:0]",
        "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        *(f"-A FORWARD -i {r.device} -o {r.device} -j ACCEPT" for r in rules),
        *(f"-A FORWARD -i {r.device} -o {UPLINK} -j ACCEPT" for r in rules if r.outward),
        "COMMIT",
        "*nat",
        f"-A POSTROUTING -o {UPLINK} -j MASQUERADE",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"
