"""What may pass between the networks of a holder and the world, as rules of the kernel's packet filter.

Written anew as a whole for each change, by nft(8) or, where that is missing, iptables-restore(8). Without
both nothing passes at all: containers reach each other on their network, and no further.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from buildkit_py.linux.userns import find

UPLINK = "up0"
_ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}


def program() -> str:
    """The path of the program that writes rules; "" where there is none."""
    return find("nft") or find("iptables-restore")


def apply(bridges: Sequence[tuple[str, bool]]) -> bool:
    """Allow each bridge (its name; whether it may reach the world) what it may; False where rules can't be.

    In the calling thread's network namespace.
    """
    path = program()
    if not path:
        return False
    text = _nft(bridges) if path.endswith("nft") else _iptables(bridges)
    argv = [path, "-f", "-"] if path.endswith("nft") else [path]
    done = subprocess.run(argv, input=text.encode(), env=_ENV, capture_output=True)
    return done.returncode == 0


def _nft(bridges: Sequence[tuple[str, bool]]) -> str:
    lines = [
        "table ip pybuild {}",
        "delete table ip pybuild",
        "table ip pybuild {",
        "chain forward {",
        "type filter hook forward priority 0; policy drop;",
        "ct state established,related accept",
        # Within a bridge, where the kernel shows that to the filter (br_netfilter).
        *(f'iifname "{name}" oifname "{name}" accept' for name, _ in bridges),
        *(f'iifname "{name}" oifname "{UPLINK}" accept' for name, outward in bridges if outward),
        "}",
        "chain postrouting {",
        "type nat hook postrouting priority 100; policy accept;",
        f'oifname "{UPLINK}" masquerade',
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _iptables(bridges: Sequence[tuple[str, bool]]) -> str:
    lines = [
        "*filter",
        ":FORWARD DROP [0:0]",
        "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        *(f"-A FORWARD -i {name} -o {name} -j ACCEPT" for name, _ in bridges),
        *(f"-A FORWARD -i {name} -o {UPLINK} -j ACCEPT" for name, outward in bridges if outward),
        "COMMIT",
        "*nat",
        f"-A POSTROUTING -o {UPLINK} -j MASQUERADE",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"
