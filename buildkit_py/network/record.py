"""What is known of the networks that containers are on: a row for each container, as JSON.

Written when a container is connected and when something of it changes; ``ps``, ``inspect`` and ``port``
read it. The row of a container that ended keeps its networks, for its next start, and no ports and addresses.
"""

# Annotations are not postponed here: typing would compile every one of them when it makes the tuples.

import json
from typing import Any

from buildkit_py.database import Database
from buildkit_py.network.ports import Published
from buildkit_py.tuples import NamedTuple

_DDL = """
CREATE TABLE IF NOT EXISTS container_networks (container TEXT PRIMARY KEY, document TEXT NOT NULL)
"""


class Endpoint(NamedTuple):
    """A container's place on one network."""

    network: str
    network_id: str = ""
    """"" for a private network, which is no one else's."""
    ip: str = ""
    prefix: int = 0
    gateway: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    """Beside the container's name and the beginning of its id."""
    wanted_ip: str = ""
    """What was asked for, and is asked for again at the next start; "": any."""
    wanted_mac: str = ""


class State(NamedTuple):
    mode: str = "host"
    """host, none, private, bridge, container:ID, or the name of its first network."""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[Published, ...] = ()

    def endpoint(self, network: str) -> Endpoint | None:
        return next((e for e in self.endpoints if network in (e.network, e.network_id)), None)


class Records:
    def __init__(self, db: Database) -> None:
        self._db = db
        db.ensure(_DDL)

    def save(self, container: str, state: State) -> None:
        document = json.dumps(
            {
                "mode": state.mode,
                "endpoints": [e._asdict() for e in state.endpoints],
                "ports": [p._asdict() for p in state.ports],
            }
        )
        self._db.run("INSERT OR REPLACE INTO container_networks VALUES (?, ?)", (container, document))

    def load(self, container: str) -> State | None:
        row = self._db.one("SELECT document FROM container_networks WHERE container = ?", (container,))
        return _state(json.loads(row[0])) if row else None

    def all(self) -> dict[str, State]:
        rows = self._db.all("SELECT container, document FROM container_networks")
        return {container: _state(json.loads(document)) for container, document in rows}

    def ended(self, container: str) -> None:
        """The container runs no more: it has no ports and no addresses."""
        state = self.load(container)
        if state is not None:
            off = tuple(e._replace(ip="", prefix=0, gateway="", mac="") for e in state.endpoints)
            self.save(container, state._replace(endpoints=off, ports=()))

    def remove(self, container: str) -> None:
        self._db.run("DELETE FROM container_networks WHERE container = ?", (container,))


def _state(document: dict[str, Any]) -> State:
    endpoints = (Endpoint(**{**e, "aliases": tuple(e["aliases"])}) for e in document["endpoints"])
    return State(document["mode"], tuple(endpoints), tuple(Published(**p) for p in document["ports"]))
