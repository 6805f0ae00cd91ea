"""``login`` and ``logout``: against a registry that wants a login, and what is left in docker's file."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from buildkit_py.errors import RegistryError
from buildkit_py.registry import login
from buildkit_py.registry.credentials import Credential, Credentials
from tests.unit.registry.fake import FakeRegistry, answering
from tests.unit.registry.test_authentication import TokenServer, guard_basic

PROGRAM = [sys.executable, "-m", "buildkit_py.cli"]
SECRET = base64.b64encode(b"user:secret").decode()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def run(*words: str, given: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*PROGRAM, *words], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return done


def config(home: Path) -> Any:
    return json.loads((home / ".docker" / "config.json").read_text())


def test_in_and_out(fake: FakeRegistry, home: Path) -> None:
    guard_basic(fake)
    done = run("login", "-u", "user", "--password-stdin", f"http://{fake.address}/v2/", given="secret\n")
    assert done.stdout == "Login Succeeded\n" and "secret" not in done.stderr
    assert config(home) == {"auths": {fake.address: {"auth": SECRET}}}
    assert (home / ".docker" / "config.json").stat().st_mode & 0o777 == 0o600
    assert os.listdir(home / ".docker") == ["config.json"]
    assert "takes the stored credentials" in run("login", fake.address).stdout
    assert run("logout", fake.address).stdout == f"Logged out of {fake.address}\n"
    assert config(home) == {"auths": {}}
    assert run("logout", fake.address).stdout == f"Not logged in to {fake.address}\n"


def test_what_is_wrong_is_not_stored(fake: FakeRegistry, home: Path) -> None:
    guard_basic(fake)
    done = run("login", "-u", "user", "--password-stdin", fake.address, given="wrong", status=1)
    assert f"{fake.address} does not know this user and password" in done.stderr
    assert not (home / ".docker").exists()


def test_by_a_token_server(fake: FakeRegistry, other: FakeRegistry, home: Path) -> None:
    server = TokenServer(fake, other, anonymous=False)
    run("login", "-u", "user", "--password-stdin", fake.address, given="secret")
    assert [sorted(query) for query in server.requests] == [["service"]]
    run("login", "-u", "user", "--password-stdin", fake.address, given="wrong", status=1)
    assert config(home)["auths"] == {fake.address: {"auth": SECRET}}


def test_asked_at_a_terminal(fake: FakeRegistry, home: Path) -> None:
    guard_basic(fake)
    child = pexpect.spawn(PROGRAM[0], [*PROGRAM[1:], "login", fake.address], encoding="utf-8", timeout=30)
    child.expect("Username for .*: ")
    child.sendline("user")
    child.expect("Password: ")
    child.sendline("secret")
    child.expect("Login Succeeded")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert config(home)["auths"] == {fake.address: {"auth": SECRET}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["login", "r.io"], "no terminal to ask"),
        (["login", "--password-stdin", "r.io"], "needs --username"),
        (["login", "-u", "u", "-p", "p", "--password-stdin", "r.io"], "exclude each other"),
        (["login", "-u", "u", "--password-stdin", "r.io"], "a password are wanted"),
        (["login", "-u", "a:b", "-p", "p", "r.io"], "without a colon"),
        (["login", "r.io/team"], "HOST or HOST:PORT"),
        (["login", "r.io:99999"], "HOST or HOST:PORT"),
        (["login", "user:pass@r.io"], "invalid registry 'r.io'"),
        (["logout", "a b"], "HOST or HOST:PORT"),
    ],
)
def test_nonsense(home: Path, words: list[str], message: str) -> None:
    done = subprocess.run([*PROGRAM, *words], input="", capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2) and message in done.stderr
    assert not (home / ".docker").exists()


def test_the_rest_of_the_file_stays(home: Path) -> None:
    (home / "real").mkdir()
    (home / "real" / "config.json").write_text(
        '{"auths": {"https://b/v1/": {"auth": "eDp5"}}, "psFormat": "x"}'
    )
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").symlink_to("../real/config.json")
    path, in_file = login.store("docker.io", Credential("user", "secret"))
    assert (path, in_file) == (str(home / ".docker" / "config.json"), True)
    hub = "https://index.docker.io/v1/"
    assert config(home) == {
        "auths": {"https://b/v1/": {"auth": "eDp5"}, hub: {"auth": SECRET}},
        "psFormat": "x",
    }
    assert (home / ".docker" / "config.json").is_symlink()
    assert login.erase("b") and login.erase("docker.io") and not login.erase("docker.io")
    assert config(home) == {"auths": {}, "psFormat": "x"}


def test_by_a_helper(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "docker-credential-test"
    program.write_text(f'#!/bin/sh\ncat >"{home}/$1"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text('{"credHelpers": {"r.io": "test"}}')
    assert login.store("r.io", Credential("user", "secret"))[1] is False
    given = {"ServerURL": "r.io", "Username": "user", "Secret": "secret"}
    assert json.loads((home / "store").read_text()) == given
    assert "secret" not in (home / ".docker" / "config.json").read_text()
    assert login.erase("r.io")
    assert (home / "erase").read_text() == "r.io"
    program.write_text("#!/bin/sh\necho locked; exit 1\n")
    with pytest.raises(RegistryError, match="locked"):
        login.store("r.io", Credential("user", "secret"))


@pytest.mark.parametrize("text", ["", "{}", '{"auths": null}'])
def test_an_empty_file(home: Path, text: str) -> None:
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text(text)
    assert not login.erase("r.io")
    login.store("r.io", Credential("user", "secret"))
    assert config(home) == {"auths": {"r.io": {"auth": SECRET}}}


def test_a_server_that_is_no_registry(home: Path, fake: FakeRegistry) -> None:
    fake.guard = answering(404)
    done = run("login", "-u", "user", "--password-stdin", fake.address, given="secret", status=1)
    assert f"{fake.address} is no registry" in done.stderr and not (home / ".docker").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}'])
def test_a_broken_file_is_left_alone(home: Path, text: str) -> None:
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text(text)
    with pytest.raises(RegistryError, match=r"config\.json"):
        login.store("r.io", Credential("user", "secret"))
    assert (home / ".docker" / "config.json").read_text() == text


def test_another_file_goes_first(fake: FakeRegistry, home: Path) -> None:
    (home / ".config" / "pybuild").mkdir(parents=True)
    own = {"auths": {fake.address: {"username": "other", "password": "x"}}}
    (home / ".config" / "pybuild" / "auth.json").write_text(json.dumps(own))
    guard_basic(fake)
    done = run("login", "-u", "user", "--password-stdin", fake.address, given="secret")
    assert "goes first" in done.stderr
    assert "still has credentials" in run("logout", fake.address).stderr
    assert Credentials().of(fake.address) == Credential("other", "x")


def test_without_a_home_nothing_is_written_where_one_stands(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(home)
    with pytest.raises(RegistryError, match="no home directory"):
        login.store("registry.example", Credential("user", "secret"), {})
    assert os.listdir(home) == []
    assert all(path.startswith("/") for path in Credentials({})._paths())
