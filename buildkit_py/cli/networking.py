"""A container's network, as it is typed."""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.request import Networking, NetworkSpec

ALONE = ("host", "none", "private")
"""Networks that a container has to itself: no further one can be given beside them."""


def translate(args: Args) -> Networking:
    """Raises UsageError for values of a wrong form."""
    publish, expose = args.texts("publish"), args.texts("expose")
    if publish or expose:
        from buildkit_py.cli import ports
    return Networking(
        networks=_networks(args),
        hostname=args.text("hostname"),
        domainname=args.text("domainname"),
        extra_hosts=values.hosts(args.texts("add_hosts")),
        ports=ports.published(publish) if publish else (),
        publish_all=args.flag("publish_all"),
        expose=ports.exposed(expose) if expose else (),
        dns=tuple(address(text, "--dns") for text in args.texts("dns")),
        dns_search=tuple(map(_domain, args.texts("dns_search"))),
        dns_options=args.texts("dns_options"),
    )


def _networks(args: Args) -> tuple[NetworkSpec, ...]:
    named = [_network(text) for text in args.texts("network")]
    aliases, ip, mac = args.texts("network_aliases"), args.text("ip"), args.text("mac_address")
    if not named:
        if not (aliases or ip or mac):
            return ()
        named = [NetworkSpec("default")]
    if len({n.name for n in named}) != len(named):
        raise UsageError("--network: a network is named twice")
    alone = [n.name for n in named if n.name in ALONE or n.name.startswith("container:")]
    if alone and len(named) > 1:
        raise UsageError(
            f"--network: {alone[0]} can't be joined with another network",
            hint="several of the networks made by `pybuild network create` can",
        )
    # As docker has it, the options that name no network are about the first one.
    first = named[0]
    named[0] = first._replace(
        aliases=first.aliases + aliases,
        ip=address(ip, "--ip") if ip else first.ip,
        mac=mac_address(mac, "--mac-address") if mac else first.mac,
    )
    return tuple(named)


def _network(text: str) -> NetworkSpec:
    """A name, or ``name=…,alias=…,ip=…,mac-address=…``."""
    if "=" not in text:
        return NetworkSpec(text)
    name, aliases, ip, mac = "", [], "", ""
    for field in values.fields(text, "--network"):
        key, _, value = field.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            aliases.append(value)
        elif key == "ip":
            ip = address(value, "--network")
        elif key == "mac-address":
            mac = mac_address(value, "--network")
        else:
            raise UsageError(
                f"--network: '{key}' in '{text}' is not known", hint="name, alias, ip and mac-address are"
            )
    if not name:
        raise UsageError(f"--network: '{text}' names no network", hint="begin with name=NETWORK")
    return NetworkSpec(name, tuple(aliases), ip, mac)


def _domain(text: str) -> str:
    """A domain of --dns-search; "." is for none."""
    if not text.strip() or set(text) & set(" \t\n#;"):
        raise UsageError(
            f"--dns-search: '{text}' is not a domain", hint="for example corp.example, or . for none"
        )
    return text


def address(text: str, option: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UsageError(f"{option}: '{text}' is not an address", hint="for example 10.1.2.3") from None


def mac_address(text: str, option: str) -> str:
    parts = text.lower().replace("-", ":").split(":")
    try:
        octets = [int(part, 16) for part in parts if len(part) == 2]
    except ValueError:
        octets = []
    if len(octets) != 6 or len(parts) != 6 or octets[0] & 1:
        raise UsageError(
            f"{option}: '{text}' is not the address of one device", hint="for example 02:42:ac:11:00:02"
        )
    return ":".join(parts)


OPTIONS = (
    option("--add-host", name="add_hosts", multiple=True, metavar="NAME:IP", help="Add a line to /etc/hosts"),
    option("--dns", multiple=True, metavar="IP", help="Ask this name server"),
    option(
        "--dns-option", "--dns-opt", name="dns_options", multiple=True, help="An option of /etc/resolv.conf"
    ),
    option("--dns-search", multiple=True, metavar="DOMAIN", help="Look names up in this domain, too"),
    option("--domainname", metavar="NAME", help="The container's domain name"),
    option("--expose", multiple=True, metavar="PORT[/PROTOCOL]", help="A port for -P to publish"),
    option("-h", "--hostname", metavar="NAME", help="The container's host name"),
    option("--ip", metavar="ADDRESS", help="The container's address on a network of yours"),
    option("--mac-address", "--mac", name="mac_address", metavar="ADDRESS", help="Its hardware address"),
    option(
        "--network",
        "--net",
        name="network",
        multiple=True,
        metavar="NETWORK",
        help="private, bridge, host, none, container:NAME, or networks made by `network create`",
    ),
    option(
        "--network-alias",
        "--net-alias",
        name="network_aliases",
        multiple=True,
        metavar="NAME",
        help="A further name of the container on the network",
    ),
    option(
        "-p",
        "--publish",
        multiple=True,
        metavar="[[IP:]PORT:]PORT[/PROTOCOL]",
        help="Make a port of the container one of this machine",
    ),
    flag("-P", "--publish-all", help="Publish all ports that the image exposes, on free ports"),
)
