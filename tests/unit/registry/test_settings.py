from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_py.errors import UsageError
from buildkit_py.registry import settings
from buildkit_py.registry.settings import HostSettings, load

EXAMPLE = """
debug = true                                    # the rest of buildkitd.toml is not ours
[worker.oci]
  gc = true
[registry."docker.io"]
  mirrors = ["127.0.0.1:5799", "https://proxy.example.com/hub/"]
[registry."127.0.0.1:5799"]
  http = true
[registry."r.example.com"]
  insecure = true
  ca = ["/etc/ca.pem"]
  [[registry."r.example.com".keypair]]
    key = "/etc/key.pem"
    cert = "/etc/cert.pem"
"""


def test_the_form_of_buildkitd_toml() -> None:
    hosts = settings.parse(EXAMPLE)
    assert hosts["docker.io"].mirrors == ("127.0.0.1:5799", "proxy.example.com/hub")
    assert hosts["127.0.0.1:5799"].http is True
    assert hosts["r.example.com"] == HostSettings(
        insecure=True, ca=("/etc/ca.pem",), keypair=(("/etc/key.pem", "/etc/cert.pem"),)
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("registry = 1", "must be a table"),
        ("[registry", "not valid TOML"),
        ('[registry."a"]\nmirors = []', "unknown setting 'mirors'"),
        ('[registry."a"]\nmirrors = "b"', "must be a list"),
        ('[registry."a"]\nmirrors = [1]', "list of strings"),
        ('[registry."a"]\nmirrors = ["a b"]', "not a mirror"),
        ('[registry."a"]\nmirrors = ["a/../x y"]', "not a mirror"),
        ('[registry."a"]\nhttp = "yes"', "true or false"),
        ('[registry."a"]\nkeypair = [{key = "x"}]', "keypair"),
        ('[registry."a"]\ntlsconfigdir = ["/nonexistent"]', "tlsconfigdir"),
    ],
)
def test_mistakes_are_named(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        settings.parse(text, "my.toml")
    assert caught.value.message.startswith("my.toml")


def test_the_users_table_goes_before_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, system = tmp_path / "user", tmp_path / "system"
    for folder, text in (
        (user, '[registry."a"]\nhttp = true'),
        (system, '[registry."a"]\nhttp = false\n[registry."b"]\ninsecure = true'),
    ):
        folder.mkdir()
        (folder / "registries.toml").write_text(text)
    monkeypatch.setattr("buildkit_py.paths.config_dirs", lambda: (str(user), str(system)))
    loaded = load({"PYBUILD_INSECURE_REGISTRIES": " c:5000, ,a"})
    assert loaded.of("a").http is True and loaded.of("b").insecure
    assert loaded.of("c:5000").http is True and loaded.of("unknown") == HostSettings()


def test_a_named_file_is_the_only_one(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(EXAMPLE)
    assert set(load({"PYBUILD_REGISTRY_CONFIG": str(file)}).hosts) == {
        "docker.io",
        "127.0.0.1:5799",
        "r.example.com",
    }
    with pytest.raises(UsageError, match="does not exist"):
        load({"PYBUILD_REGISTRY_CONFIG": str(tmp_path / "none")})
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="UTF-8"):
        load({"PYBUILD_REGISTRY_CONFIG": str(file)})


def test_tlsconfigdir(tmp_path: Path) -> None:
    for name in ("a.crt", "b.cert", "b.key", "c.cert", "d.txt"):
        (tmp_path / name).touch()
    host = settings.parse(f'[registry."a"]\ntlsconfigdir = ["{tmp_path}"]')["a"]
    assert host.ca == (f"{tmp_path}/a.crt",) and host.keypair == (
        (f"{tmp_path}/b.key", f"{tmp_path}/b.cert"),
    )


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
        ("docker.io", False),
        ("10.0.0.1:5000", False),
        ("[2001:db8::1]:80", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert settings.is_loopback(address) is loopback
