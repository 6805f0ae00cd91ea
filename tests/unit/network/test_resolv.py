from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_py.network import resolv
from buildkit_py.network.resolv import hosts_text, resolv_text


def test_hosts() -> None:
    lines = hosts_text("box", (("db", "10.0.0.5"), ("six", "fd00::1"))).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert "10.0.0.5\tdb" in lines
    assert "fd00::1\tsix" in lines
    assert lines[-1] == "127.0.0.1\tbox"


def test_a_given_name_is_not_overruled() -> None:
    assert "127.0.0.1\tbox" not in hosts_text("box", (("box", "10.0.0.5"),))
    assert hosts_text("").endswith("ip6-allrouters\n")
    assert hosts_text("vm", text="127.0.1.1 vm # this machine") == "127.0.1.1 vm # this machine\n"
    assert hosts_text("machine", text="127.0.1.1 vm # this machine").endswith("127.0.0.1\tmachine\n")


def test_host_network_has_the_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.53\noptions edns0\n")
    assert resolv_text("host", str(path)) == path.read_text()
    assert resolv_text("host", str(tmp_path / "none")) == ""


def test_no_network_has_no_servers(tmp_path: Path) -> None:
    assert "nameserver" not in resolv_text("none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 9.9.9.9\nnameserver 127.0.0.1\n", "nameserver 9.9.9.9\n"),
        ("# x\nsearch a.b\nnameserver 127.0.0.53\n", "search a.b\nnameserver 10.0.2.3\n"),
        ("", "nameserver 10.0.2.3\n"),
        ("nameserver ::1\n", "nameserver 10.0.2.3\n"),
    ],
)
def test_private_network_has_servers_it_can_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.setattr(resolv, "_STUB", str(tmp_path / "none"))
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert resolv_text("private", str(path)) == expected


def test_private_network_takes_what_systemd_resolved_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.write_text("nameserver 192.0.2.7\nsearch lan\n")
    monkeypatch.setattr(resolv, "_STUB", str(real))
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.53\n")
    assert resolv_text("private", str(path)) == "search lan\nnameserver 192.0.2.7\n"
