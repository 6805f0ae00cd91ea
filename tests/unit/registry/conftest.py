from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_py.registry.client import RegistryClient
from buildkit_py.registry.credentials import Credentials
from buildkit_py.registry.settings import HostSettings, Settings
from tests.unit.registry.fake import FakeRegistry

Connect = Callable[..., RegistryClient]


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    fake = FakeRegistry()
    yield fake
    fake.close()


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    """A second server: a mirror, a token server, a target of redirects."""
    fake = FakeRegistry()
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(certificate, key) for 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
        + ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return str(certificate), str(key)


@pytest.fixture
def secure(certificate: tuple[str, str]) -> Iterator[FakeRegistry]:
    fake = FakeRegistry(certificate)
    yield fake
    fake.close()


@pytest.fixture
def sleeps() -> list[float]:
    """The pauses that clients of ``connect`` made, in seconds."""
    return []


@pytest.fixture
def connect(tmp_path: Path, sleeps: list[float]) -> Iterator[Connect]:
    """Makes clients that never sleep and know no credentials but those given: docker's file as text."""
    clients: list[RegistryClient] = []

    def make(hosts: dict[str, HostSettings] | None = None, auths: str = "{}") -> RegistryClient:
        (tmp_path / "config.json").write_text(auths)
        environ = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        client = RegistryClient(Settings(hosts or {}), credentials=Credentials(environ), sleep=sleeps.append)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
