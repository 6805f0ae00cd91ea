from __future__ import annotations

from pathlib import Path

from buildkit_py.network import description, record
from buildkit_py.network.record import Endpoint, Published, State
from buildkit_py.request import NetworkSpec

STATE = State(
    "shop",
    (Endpoint("shop", "f" * 64, "10.89.0.2", 24, "10.89.0.1", "02:42:0a:59:00:02", ("db",), "10.89.0.2"),),
    (Published(80, "tcp", "0.0.0.0", 8080), Published(80, "tcp", "::", 8080)),
    name="till",
)


def test_round_trip(tmp_path: Path) -> None:
    assert record.load(str(tmp_path)) is None
    record.save(str(tmp_path), STATE)
    assert record.load(str(tmp_path)) == STATE
    assert [p.name for p in tmp_path.iterdir()] == ["network.json"]


def test_what_ended_has_networks_and_no_ports(tmp_path: Path) -> None:
    record.save(str(tmp_path), STATE)
    record.ended(str(tmp_path))
    after = record.load(str(tmp_path))
    assert after is not None and after.ports == () and after.endpoints[0].ip == ""
    assert after.endpoints[0].wanted_ip == "10.89.0.2" and after.endpoints[0].aliases == ("db",)
    record.ended(str(tmp_path / "gone"))


def test_the_next_start(tmp_path: Path) -> None:
    asked = (NetworkSpec("other"),)
    record.save(str(tmp_path), STATE)
    assert record.specs(str(tmp_path), asked) == asked
    record.save(str(tmp_path), STATE._replace(changed=True))
    assert record.specs(str(tmp_path), asked) == (NetworkSpec("shop", ("db",), "10.89.0.2"),)
    record.save(str(tmp_path), State("none", changed=True))
    assert record.specs(str(tmp_path), asked) == (NetworkSpec("none"),)


def test_descriptions() -> None:
    assert description.ports_text(STATE) == "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    ports = STATE._replace(ports=tuple(Published(n, "tcp", "0.0.0.0", n) for n in (1000, 1001, 1003)))
    exposed = ("80/tcp", "9/udp", "81/tcp", "1000/tcp", "odd/tcp")
    shown = "9/udp, 80-81/tcp, 0.0.0.0:1000-1001->1000-1001/tcp, 0.0.0.0:1003->1003/tcp"
    assert sorted(description.ports_text(ports, exposed).split(", ")) == sorted(shown.split(", "))
    assert description.ports_text(State("none"), exposed) == "" == description.ports_text(None, exposed)
    settings = description.settings(STATE, ("80/tcp", "9/udp"), "a" * 64)
    assert settings["IPAddress"] == "10.89.0.2" and settings["Ports"]["9/udp"] is None
    assert settings["Ports"]["80/tcp"][1] == {"HostIp": "::", "HostPort": "8080"}
    assert settings["Networks"]["shop"]["DNSNames"] == ["till", "db", "a" * 12]
    assert description.names(None, ()) == ["default"]
    assert description.names(STATE, ("other",)) == ["shop"]
