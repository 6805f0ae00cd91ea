"""RUN steps on a network of the user's (``build --network NAME``), beside the containers that are on it."""

from __future__ import annotations

import os
from contextlib import ExitStack

from buildkit_py.network.client import Json, open_link
from buildkit_py.network.names import ADDRESS
from buildkit_py.network.namespace import create
from buildkit_py.network.resolv import hosts_text, names_resolv, with_gateway
from buildkit_py.sandbox.spec import SandboxSpec


class JoinedNetwork:
    """``root`` is the store, ``definition`` the network as the holder is told. The process is in the holder's
    user namespace."""

    def __init__(self, root: str, definition: Json) -> None:
        self._root = root
        self._definition = definition

    def enter(
        self, spec: SandboxSpec, hosts: tuple[tuple[str, str], ...], stack: ExitStack
    ) -> tuple[SandboxSpec, int]:
        """The spec of a step that is on the network until ``stack`` is closed, and its namespace.

        From any thread. Raises NetworkError.
        """
        namespace = create()
        stack.callback(os.close, namespace)
        link = open_link(self._root)
        stack.callback(link.close)
        name = f"build-{os.urandom(6).hex()}"
        told = link.ask(
            "attach",
            (namespace,),
            container=name,
            name=name,
            endpoints=[{"network": self._definition}],
        )
        addresses = tuple(place["ip"] for place in told["endpoints"])
        fitted = spec._replace(
            network="none",
            hosts=hosts_text(spec.hostname, with_gateway(hosts, shared=False), addresses=addresses),
            resolv_conf=names_resolv(ADDRESS),
        )
        return fitted, namespace
