"""The private network, where slirp4netns and the TUN device are to be had."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from buildkit_py.network.private import TUN
from tests.integration.sandbox.conftest import Sandboxes
from tests.support.people import available

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp", "slirp4netns")


def test_a_closed_tun_device_is_mended_by_a_command(sandbox: Sandboxes) -> None:
    if sandbox.person.kind == "root" or os.stat(TUN).st_mode & 0o006 == 0o006:
        # Open to this user: then it works (the test below).
        return
    done = sandbox.sh("true", network="private")
    assert done.error is not None
    assert "chmod 0666 /dev/net/tun" in done.error["hint"]


@pytest.fixture
def open_tun(monkeypatch: pytest.MonkeyPatch, sandbox: Sandboxes) -> None:
    """A TUN node that everybody may open, in the driver's mount namespace alone (only root can do so)."""
    if os.stat(TUN).st_mode & 0o006 == 0o006 or sandbox.person.kind == "root" or "root" not in available():
        return
    node = sandbox.folder / "tun"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 200))
    node.chmod(0o666)
    start = sandbox.start

    def in_namespace(request: dict[str, object]) -> subprocess.Popen[str]:
        real = subprocess.Popen

        def popen(argv: list[str], **more: object) -> subprocess.Popen[str]:
            user, group = more.pop("user"), more.pop("group")
            more.pop("extra_groups")
            script = (
                f'mount --bind {node} {TUN} && exec setpriv --reuid={user} --regid={group} --init-groups "$@"'
            )
            command = ["unshare", "-m", "sh", "-c", script, "sh", *argv]
            return real(command, **more)  # type: ignore[call-overload, no-any-return]

        monkeypatch.setattr(subprocess, "Popen", popen)
        try:
            return start(request)
        finally:
            monkeypatch.undo()

    sandbox.start = in_namespace  # type: ignore[method-assign]


def serve_once(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.sendall(b"hello\n")
    connection.close()


def own_address() -> str:
    """An address of this machine that is no loopback, "" where there is none."""
    addresses = json.loads(subprocess.check_output(["ip", "-j", "-4", "addr"]))
    found = [
        address["local"]
        for link in addresses
        for address in link.get("addr_info", ())
        if not address["local"].startswith("127.")
    ]
    return found[0] if found else ""


@pytest.mark.usefixtures("open_tun")
def test_it_reaches_the_world_and_not_the_hosts_loopback(sandbox: Sandboxes) -> None:
    address = own_address() if shutil.which("ip") else ""
    with socket.socket() as inner, socket.socket() as outer:
        inner.bind(("127.0.0.1", 0))
        inner.listen()
        outer.bind((address or "127.0.0.1", 0))
        outer.listen()
        helper = threading.Thread(target=serve_once, args=(outer,), daemon=True)
        if address:
            helper.start()
        done = sandbox.sh(
            f"""
            ifconfig eth0 | grep -o 'inet addr:[0-9.]*'; route -n | grep -c '^0.0.0.0'
            nc -w 1 10.0.2.2 {inner.getsockname()[1]} </dev/null && echo reached the loopback
            {f"nc -w 3 {address} {outer.getsockname()[1]} </dev/null" if address else "echo hello"}
            """,
            network="private",
        )
        if address:
            helper.join(5)
    assert done.error is None, done.error
    assert done.out.splitlines() == ["inet addr:10.0.2.100", "1", "hello"]


@pytest.mark.usefixtures("open_tun")
def test_the_program_goes_with_the_sandbox(sandbox: Sandboxes) -> None:
    done = sandbox.many([{"args": ["true"], "network": "private"}] * 3)
    assert [d.status for d in done] == [0, 0, 0]
    mine = [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(sandbox.folder) in _text(p)]
    assert mine == []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
