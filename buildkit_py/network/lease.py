"""A container's connection to the network holder, and how it is renewed."""

from __future__ import annotations

import os

from buildkit_py.errors import PybuildError
from buildkit_py.linux import locks
from buildkit_py.network import record
from buildkit_py.network.client import Json, Link, leases_of, open_link
from buildkit_py.network.namespace import create
from buildkit_py.network.worker import Worker


class Reserved:
    """A place on a network that is had before it is known for which container. Raises NetworkError.

    ``definition`` is the network as the holder is told. Starts the holder where there is none.
    """

    def __init__(self, root: str, definition: Json) -> None:
        self.link = open_link(root)
        try:
            self.namespace = create()
            self.name = os.urandom(32).hex()
            endpoint = {"network": definition}
            told = self.link.ask(
                "attach", (self.namespace,), container=self.name, name=self.name, endpoints=[endpoint]
            )
            self.warnings: list[str] = told["warnings"]
        except BaseException:
            self.link.close()
            raise

    def close(self) -> None:
        """Give it back."""
        self.link.close()
        os.close(self.namespace)


class Lease:
    """``root`` is the store, ``directory`` and ``container`` (id and name) tell the container, ``namespace``
    is a descriptor of its network namespace, ``dns`` are its own name servers."""

    def __init__(
        self,
        root: str,
        link: Link,
        directory: str,
        container: tuple[str, str],
        namespace: int,
        dns: tuple[str, ...],
    ) -> None:
        self.link = link
        self._root = root
        self._directory = directory
        self._container = container
        self._namespace = namespace
        self._dns = dns
        self._lock = -1

    def fileno(self) -> int:
        return self.link.fileno()

    def descriptors(self) -> tuple[int, ...]:
        """What the process that keeps the lease has to keep open."""
        return (self.link.fileno(), self.link.namespace, self.link.user, self._namespace)

    def address(self) -> str:
        """The container's on the first of its networks by now; "": it is on none."""
        state = record.load(self._directory)
        return state.joined[0].ip if state is not None and state.joined else ""

    def keep(self) -> None:
        """To be called by the process that keeps the lease, while it is in the host's network: as long as it
        lives, it alone sees to a holder that died."""
        self._outside = Worker()
        self._lock = locks.open_lock(leases_of(self._root))
        locks.share(self._lock)

    def attach(self, endpoints: list[Json]) -> Json:
        """Raises NetworkError."""
        id, name = self._container
        return self.link.ask(
            "attach",
            (self._namespace,),
            container=id,
            name=name,
            dns=list(self._dns),
            endpoints=endpoints,
        )

    def take(self, reserved: Reserved) -> Json:
        """Have the place that was reserved with the same link and namespace. Raises NetworkError."""
        id, name = self._container
        told = self.link.ask("take", container=reserved.name, id=id, name=name, dns=list(self._dns))
        return {**told, "warnings": reserved.warnings}

    def renew(self) -> bool:
        """Attach the container again, by a new holder where there is none in the same namespaces.

        What it is on now stands in its record: it may have been connected and disconnected since it started.
        (Not in the index: SQLite was open when this process was forked, and is of no use to it.)
        """
        before = self.link
        try:
            state = record.load(self._directory) or record.State()
            # The new holder's place is the host's network, as its predecessor's.
            self.link = self._outside(lambda: open_link(self._root, before.namespace))
            if not _same(self.link.namespace, before.namespace):
                return False
            self._container = (self._container[0], state.name or self._container[1])
            self.attach(
                [
                    {"network": e.definition, "aliases": list(e.aliases), "ip": e.ip, "mac": e.mac}
                    for e in state.joined
                ]
            )
        except (PybuildError, OSError):
            return False
        before.close()
        return True


def _same(one: int, other: int) -> bool:
    return os.fstat(one).st_ino == os.fstat(other).st_ino
