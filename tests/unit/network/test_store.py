from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.database import Database
from buildkit_py.errors import NetworkError, NotFoundError
from buildkit_py.network import store as stores
from buildkit_py.network.bridge import Bridge
from buildkit_py.network.store import NetworkStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NetworkStore]:
    routes = [ipaddress.IPv4Network("10.89.0.0/24")]
    monkeypatch.setattr(stores, "host_subnets", lambda: iter(routes))
    db = Database(str(tmp_path / "index.db"))
    yield NetworkStore(db)
    db.close()


def test_subnets_are_free_ones(store: NetworkStore) -> None:
    assert [store.create(name).subnet for name in "ab"] == ["10.89.1.0/24", "10.89.2.0/24"]
    assert store.get("a").gateway == "10.89.1.1"
    assert store.bridge().subnet == "10.89.4.0/22" and store.bridge().id == store.bridge().id


def test_by_name_or_id(store: NetworkStore) -> None:
    made = store.create("shop", labels={"a": "b"})
    assert store.get("shop") == store.get(made.id[:12]) == made
    store.remove(made)
    with pytest.raises(NotFoundError, match="no such network: shop"):
        store.get("shop")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"subnet": "10.90.0.0/16", "gateway": "10.91.0.1"}, "no address of a device"),
        ({"subnet": "10.90.0.0/16", "gateway": "10.90.255.255"}, "no address of a device"),
        ({"subnet": "10.90.0.0/16", "ip_range": "10.91.0.0/24"}, "no part of"),
        ({"subnet": "10.90.0.1/16"}, "host bits"),
        ({"subnet": "fd00::/64"}, "IPv6|Expected 4"),
        ({"subnet": "10.90.0.0/31"}, "no room"),
        ({"gateway": "10.90.0.1"}, "need a --subnet"),
        ({"subnet": "10.93.7.0/24"}, "overlaps"),
    ],
)
def test_addresses_that_do_not_fit(store: NetworkStore, options: dict[str, str], reason: str) -> None:
    store.create("first", subnet="10.93.0.0/16")
    with pytest.raises(NetworkError, match=reason):
        store.create("n", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["host", "none", "bridge", "private", "default", "taken"])
def test_names_that_are_taken(store: NetworkStore, name: str) -> None:
    store.create("taken")
    with pytest.raises(NetworkError, match="already"):
        store.create(name)


def test_addresses_of_containers(store: NetworkStore) -> None:
    network = store.create("n", subnet="10.94.0.0/29", gateway="10.94.0.2")
    bridge = Bridge(network.message())
    taken = [bridge.take("") for _ in range(4)]
    assert taken == ["10.94.0.1", "10.94.0.3", "10.94.0.4", "10.94.0.5"]
    # An address that was given back is not the next one's at once.
    bridge.used.discard("10.94.0.5")
    assert bridge.take("") == "10.94.0.6"
    assert bridge.take("") == "10.94.0.5"
    with pytest.raises(NetworkError, match="no free address"):
        bridge.take("")
    for wanted in ("10.94.0.2", "10.94.0.0", "10.94.0.7", "10.1.1.1", "10.94.0.1"):
        with pytest.raises(NetworkError, match=r"can't be|taken"):
            bridge.take(wanted)


def test_a_range_of_addresses(store: NetworkStore) -> None:
    network = store.create("n", subnet="10.95.0.0/24", ip_range="10.95.0.128/30")
    bridge = Bridge(network.message())
    assert {bridge.take("") for _ in range(4)} == {f"10.95.0.{n}" for n in range(128, 132)}
