"""What buildkit_py.network.netlink makes, read back by pyroute2's own sockets."""

from __future__ import annotations

import os
from ipaddress import IPv4Network
from typing import Any

import pytest
from pyroute2 import IPRoute

from buildkit_py.errors import NetworkError
from buildkit_py.network.netlink import MTU, Netlink
from tests.support.machine import Namespace

pytestmark = pytest.mark.needs("root", "nsenter")


def test_links_addresses_and_routes() -> None:
    one, two = Namespace(), Namespace()
    fd = os.open(two.path, os.O_RDONLY)
    try:
        one.within(lambda: _make(fd))
        links, addresses, routes = one.within(_read)
        far, _, _ = two.within(_read)
    finally:
        os.close(fd)
        for namespace in (one, two):
            namespace.close()
    bridge, port = links["b0"], links["v0"]
    assert bridge.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "bridge"
    assert port.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "veth"
    assert port.get_attr("IFLA_MASTER") == bridge["index"] and port.get_attr("IFLA_MTU") == MTU
    assert bridge["flags"] & port["flags"] & 1
    assert far["eth7"].get_attr("IFLA_ADDRESS") == "02:00:00:00:00:07"
    assert [a["prefixlen"] for a in addresses if a.get_attr("IFA_ADDRESS") == "10.1.2.1"] == [24]
    by = {(r.get_attr("RTA_DST"), r["dst_len"]): r for r in routes if r.get_attr("RTA_GATEWAY") == "10.1.2.9"}
    assert set(by) == {(None, 0), ("10.9.0.0", 16)}
    assert by[None, 0].get_nested("RTA_METRICS", "RTAX_MTU") == 1400


def _make(namespace: int) -> None:
    with Netlink() as netlink:
        netlink.add_bridge("b0")
        netlink.add_address("b0", "10.1.2.1", 24)
        netlink.set_up("b0")
        netlink.add_pair("v0", "eth7", namespace, "02:00:00:00:00:07")
        netlink.set_up("v0", bridge="b0")
        netlink.add_pair("v1", "eth8", namespace, "")
        netlink.remove("v1")
        netlink.remove("v1")
        netlink.add_default_route("10.1.2.9", 1400)
        netlink.add_route(IPv4Network("10.8.0.0/16"), "10.1.2.9")
        netlink.add_route(IPv4Network("10.9.0.0/16"), "10.1.2.9")
        netlink.remove_route(IPv4Network("10.8.0.0/16"), "10.1.2.9")
        assert set(netlink.links()) >= {"lo", "b0", "v0"} and netlink.mtu("b0") == MTU
        with pytest.raises(NetworkError, match="File exists"):
            netlink.add_bridge("b0")


def _read() -> tuple[dict[str, Any], list[Any], list[Any]]:
    with IPRoute() as ip:
        links = {link.get_attr("IFLA_IFNAME"): link for link in ip.get_links()}
        return links, list(ip.get_addr()), list(ip.get_routes(table=254))
