from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.registry.credentials import Credential, Credentials


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def known(tmp_path: Path, document: Any) -> Credentials:
    (tmp_path / "config.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return Credentials({"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "key", ["r.io:5000", "https://r.io:5000", "http://r.io:5000/", "https://r.io:5000/v1/", "r.io:5000/v2/"]
)
def test_how_a_registry_is_written(tmp_path: Path, key: str) -> None:
    credentials = known(tmp_path, {"auths": {key: auth("u", "p:with:colons")}})
    assert credentials.of("r.io:5000") == Credential("u", "p:with:colons")
    assert credentials.of("r.io") is None


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_the_names_of_the_hub(tmp_path: Path, key: str) -> None:
    assert known(tmp_path, {"auths": {key: auth("u", "p")}}).of("docker.io") == Credential("u", "p")


def test_a_part_of_a_registry(tmp_path: Path) -> None:
    auths = {"q.io": auth("all", "1"), "q.io/team": auth("team", "2")}
    credentials = known(tmp_path, {"auths": auths})
    found = [credentials.of("q.io", r) for r in ("team/app", "team", "other/app", "")]
    assert [c and c.username for c in found] == ["team", "team", "all", "all"]


def test_identity_tokens_and_plain_fields(tmp_path: Path) -> None:
    auths = {"a": {"identitytoken": "t"}, "b": {"username": "u", "password": "p"}, "c": {}, "d": {"auth": ""}}
    credentials = known(tmp_path, {"auths": auths})
    assert credentials.of("a") == Credential("", "", "t")
    assert credentials.of("b") == Credential("u", "p")
    assert credentials.of("c") is None and credentials.of("d") is None


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        "null",
        {"auths": []},
        {"auths": {"r": 1}},
        {"auths": {"r": {"auth": "§"}}},
        {"auths": {"r": {"auth": base64.b64encode(b"\xff").decode()}}},
        {"auths": {"r": {"username": 1}}},
        {"credHelpers": [], "credsStore": 1},
        {"credsStore": "../../bin/sh"},
        {"credsStore": "does-not-exist"},
    ],
)
def test_nonsense_is_no_credential(tmp_path: Path, document: Any) -> None:
    assert known(tmp_path, document).of("r") is None


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


ANSWER = """read server; printf '{"Username":"for %s","Secret":"s"}' "$server\""""


def test_a_credential_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, ANSWER)
    credentials = known(tmp_path, {"credHelpers": {"r.io": "test"}, "auths": {"r.io": auth("u", "p")}})
    assert credentials.of("r.io") == Credential("for r.io", "s")
    assert credentials.of("s.io") is None


def test_a_store_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, ANSWER)
    credentials = known(tmp_path, {"credsStore": "test", "auths": {"https://index.docker.io/v1/": {}}})
    assert credentials.of("docker.io") == Credential("for https://index.docker.io/v1/", "s")


def test_a_registry_without_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, ANSWER)
    document = {"credsStore": "test", "credHelpers": {"r.io": ""}, "auths": {"r.io": auth("u", "p")}}
    assert known(tmp_path, document).of("r.io") == Credential("u", "p")
    assert known(tmp_path, {"credsStore": "test", "credHelpers": {"r.io": ""}}).of("r.io") is None


def test_a_helper_that_gives_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'echo \'{"Username":"<token>","Secret":"t"}\'')
    assert known(tmp_path, {"credsStore": "test"}).of("r") == Credential("", "", "t")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo credentials not found in native keychain; exit 1", False),
        ("echo the vault is locked >&2; exit 1", True),
        ("echo nonsense", True),
        ("echo '{}'", True),
    ],
)
def test_a_helper_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: bool
) -> None:
    helper(tmp_path, monkeypatch, script)
    credentials = known(tmp_path, {"credsStore": "test"})
    assert credentials.of("r") is None and bool(credentials.problems) is problem


def test_our_own_file_goes_first(tmp_path: Path) -> None:
    (tmp_path / "xdg" / "pybuild").mkdir(parents=True)
    (tmp_path / "xdg" / "pybuild" / "auth.json").write_text(json.dumps({"auths": {"r": auth("ours", "1")}}))
    credentials = known(tmp_path, {"auths": {"r": auth("dockers", "2"), "s": auth("dockers", "3")}})
    assert credentials.of("r") == Credential("ours", "1") and credentials.of("s") == Credential(
        "dockers", "3"
    )


def test_podmans_file(tmp_path: Path) -> None:
    file = tmp_path / "podman.json"
    file.write_text(json.dumps({"auths": {"r": auth("u", "p")}}))
    environ = {"REGISTRY_AUTH_FILE": str(file), "HOME": str(tmp_path)}
    assert Credentials(environ).of("r") == Credential("u", "p")
