"""SSH agents for steps: real ones, for key files, and what a step may reach of them."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from buildkit_py.errors import PybuildError, StepError, UsageError
from buildkit_py.llb.ops import Mount
from buildkit_py.request import SshSpec
from buildkit_py.worker.ssh import Agents, Relay, mount_agent

MOUNT = Mount("ssh", "/run/agent", id="default")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[str]:
    """A socket that answers one message for each connection, in capitals."""
    path = str(tmp_path / "echo")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def answer(near: socket.socket) -> None:
        with near, suppress(OSError):
            near.sendall(near.recv(100).upper())

    def serve() -> None:
        threads = []
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=answer, args=(near,)))
            threads[-1].start()
        for each in threads:
            each.join()

    thread = threading.Thread(target=serve)
    thread.start()
    yield path
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.close()


def _keys(sock: str) -> str:
    done = subprocess.run(
        ["ssh-add", "-l"],
        env={"SSH_AUTH_SOCK": sock, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.needs("ssh-agent")
def test_key_files(tmp_path: Path, key: Path) -> None:
    agents = Agents((SshSpec("default", (str(key),)),), str(tmp_path / "store"))
    sock = agents.socket("default")
    assert "ED25519" in _keys(sock)
    assert agents.socket("default") == sock
    assert agents.socket("other") == ""
    with ExitStack() as stack:
        mount = mount_agent(agents, MOUNT, str(tmp_path / "store"), stack)
        assert mount is not None
        assert (mount.kind, mount.target) == ("bind", "/run/agent")
        assert "ED25519" in _keys(mount.source)
        assert os.stat(mount.source).st_mode & 0o777 == 0o600
    assert not os.path.exists(mount.source)
    agents.close()
    assert os.listdir(tmp_path / "store/staging") == []


@pytest.mark.needs("ssh-agent")
def test_key_with_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "hush!", "-f", path], check=True)
    agents = Agents((SshSpec("k", (str(path),)),), str(tmp_path / "store"))
    try:
        with pytest.raises(PybuildError, match="--ssh k"):
            agents.socket("k")
    finally:
        agents.close()


def test_mode(tmp_path: Path, echo: str) -> None:
    agents = Agents((SshSpec("x", (echo,)),), str(tmp_path))
    with ExitStack() as stack:
        mount = mount_agent(agents, MOUNT._replace(id="x", mode=0o666), str(tmp_path), stack)
        assert mount is not None
        assert os.stat(mount.source).st_mode & 0o777 == 0o666
        assert os.listdir(os.path.dirname(mount.source)) == ["agent"]


def test_agent_of_the_user(tmp_path: Path, echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", echo)
    assert Agents((SshSpec(),), str(tmp_path)).socket("default") == echo
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(UsageError, match="SSH_AUTH_SOCK is not set"):
        Agents((SshSpec(),), str(tmp_path))


def test_bad_paths(tmp_path: Path, echo: str) -> None:
    for paths in ((str(tmp_path / "none"),), (str(tmp_path),), (echo, echo)):
        with pytest.raises(UsageError):
            Agents((SshSpec("x", paths),), str(tmp_path))


def test_missing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        assert mount_agent(None, MOUNT, str(tmp_path), stack) is None
        agents = Agents((), str(tmp_path))
        assert mount_agent(agents, MOUNT, str(tmp_path), stack) is None
        with pytest.raises(StepError, match="'default' is required"):
            mount_agent(agents, MOUNT._replace(required=True), str(tmp_path), stack)


def _ask(path: str, text: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(path)
        client.sendall(text)
        return client.recv(100)


def test_relay(tmp_path: Path, echo: str) -> None:
    with Relay(str(tmp_path), echo) as relay:
        assert [_ask(relay.path, b"%d a" % n) for n in range(100)] == [b"%d A" % n for n in range(100)]
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(relay.path)
        assert _ask(relay.path, b"b") == b"B"
        silent.close()
        assert _ask(relay.path, b"c") == b"C"


def test_relay_to_nobody(tmp_path: Path) -> None:
    with Relay(str(tmp_path), str(tmp_path / "none")) as relay:
        try:
            assert _ask(relay.path, b"a") == b""
        except ConnectionError:
            pass


def test_relay_below_a_long_path(tmp_path: Path, echo: str) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with Relay(str(folder), echo) as relay:
        os.symlink(folder, tmp_path / "s")
        assert _ask(str(tmp_path / "s/agent"), b"a") == b"A"
    assert relay.path.startswith(str(folder))
