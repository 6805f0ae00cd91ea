"""Other programs' rules for what this machine passes on: a packet has to be accepted by the chains of all."""

from __future__ import annotations

import json

from buildkit_py.errors import NetworkError, SandboxError
from buildkit_py.linux import nftables
from buildkit_py.linux.userns import find
from buildkit_py.network.filter import HOST_DEVICES

_LEGACY = "/proc/net/ip_tables_names"
_ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}


def admit(device: str, connection: nftables.Connection) -> bool:
    """Have the machine's firewall pass on what comes from and goes to a device; whether that took rules.

    Where iptables drops what it doesn't know, as docker and ufw have it, they are put at the beginning of its
    chain FORWARD. They name the device, which is gone with its namespace; ``dismiss`` removes them.

    Raises NetworkError where another firewall stands in the way.
    """
    tools = []
    for table in _dropping(connection):
        if table != "ip filter":
            raise NetworkError(f"the table {table} of the machine's packet filter passes nothing on")
        tools.append(find("iptables-nft") or find("iptables"))
    if _legacy_drops():
        tools.append(find("iptables-legacy"))
    for tool in tools:
        if not tool or not _insert(tool, device):
            raise NetworkError("iptables' chain FORWARD passes nothing on, and takes no rule")
    return bool(tools)


def dismiss(device: str) -> None:
    for tool in filter(None, (find("iptables-nft") or find("iptables"), find("iptables-legacy"))):
        for option in ("-i", "-o"):
            while _run(tool, "-D", option, device):
                pass


def _dropping(connection: nftables.Connection) -> list[str]:
    """The tables with a chain that drops forwarded packets which no rule accepts; ours aside."""
    try:
        listed = json.loads(connection.run("list chains", json=True) or "{}")
    except SandboxError:
        return []
    chains = [item["chain"] for item in listed.get("nftables", ()) if "chain" in item]
    return sorted(
        {
            f"{chain['family']} {chain['table']}"
            for chain in chains
            if chain.get("hook") == "forward"
            and chain.get("policy") == "drop"
            and chain["family"] in ("ip", "inet")
            and not chain["table"].startswith(HOST_DEVICES)
        }
    )


def _legacy_drops() -> bool:
    """Reading its rules would load the old iptables' modules: only where they are."""
    try:
        with open(_LEGACY) as f:
            if "filter" not in f.read().split():
                return False
    except OSError:
        return False
    tool = find("iptables-legacy")
    if not tool:
        return False
    import subprocess

    done = subprocess.run([tool, "-S", "FORWARD"], env=_ENV, capture_output=True, text=True)
    return "-P FORWARD DROP" in done.stdout


def _insert(tool: str, device: str) -> bool:
    """The rules, once."""
    return all(
        _run(tool, "-C", option, device) or _run(tool, "-I", option, device) for option in ("-i", "-o")
    )


def _run(tool: str, action: str, option: str, device: str) -> bool:
    import subprocess

    argv = [tool, "-w", "5", action, "FORWARD", option, device, "-j", "ACCEPT"]
    return subprocess.run(argv, env=_ENV, capture_output=True).returncode == 0
