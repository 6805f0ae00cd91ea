"""Containers on networks, as each kind of user, with a TUN device that the user may open."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildkit_py.network.private import TUN
from tests.support.people import available
from tests.support.registry import Registry
from tests.support.runner import Pybuild

SYSTEM = "/usr/sbin:/sbin:/usr/bin:/bin"


def on_the_host() -> tuple[list[str], str]:
    """What the host's network has of ours: devices, and tables of its packet filter where they may be read.

    By name, for others on the machine may be at work there.
    """
    devices = [name for name in os.listdir("/sys/class/net") if name.startswith(("pb", "up0"))]
    if os.geteuid() or not shutil.which("nft", path=SYSTEM):
        return devices, ""
    listed = subprocess.run(["nft", "list", "tables"], env={"PATH": SYSTEM}, capture_output=True, text=True)
    return devices, "\n".join(line for line in listed.stdout.splitlines() if "pybuild" in line)


@pytest.fixture(autouse=True)
def _the_host_stays_as_it_is() -> Iterator[None]:
    yield
    assert on_the_host() == ([], "")


class Host(Pybuild):
    """The program on a machine whose TUN device everybody may open, as udev makes it."""

    mounts: dict[str, Path]
    """What lies over files of the machine, in a mount namespace that each command has to itself."""

    def start(self, *words: str | Path, **more: object) -> subprocess.Popen[str]:
        if not self.mounts:
            return super().start(*words, **more)  # type: ignore[arg-type]
        person, program = self.person, self.program
        binds = " && ".join(f"mount --bind {source} {target}" for target, source in self.mounts.items())
        script = f'{binds} && exec setpriv --reuid={person.uid} --regid={person.gid} --init-groups "$@"'
        self.program = program._replace(argv=("unshare", "-m", "sh", "-c", script, "sh", *program.argv))
        self.person = person._replace(uid=os.geteuid())
        try:
            return super().start(*words, **more)  # type: ignore[arg-type]
        finally:
            self.program, self.person = program, person

    def use_store(self, other: Pybuild) -> None:
        """Work in the store of another runner of the same user."""
        self.environment["PYBUILD_ROOT"] = other.environment["PYBUILD_ROOT"]

    @contextmanager
    def running(self, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
        """``run`` of a command that says "ready" when it serves; ended by SIGTERM."""
        with self.start("run", "--rm", *words) as process:
            assert process.stdout is not None and process.stderr is not None
            try:
                line = process.stdout.readline()
                assert line == "ready\n", (line, process.stderr.read() if process.poll() is not None else "")
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(10)
                finally:
                    process.kill()


def open_to_all() -> bool:
    return os.stat(TUN).st_mode & 0o006 == 0o006


@pytest.fixture
def host(
    each_identity: str, bases: Registry, people_at_work: Callable[[str, Path], Pybuild], workshop: Path
) -> Host:
    made = people_at_work(each_identity, bases.settings)
    made.__class__ = Host
    assert isinstance(made, Host)
    made.mounts = {}
    if each_identity != "root" and "root" in available() and not open_to_all():
        made.mounts[TUN] = tun_node(workshop, 0o666)
    return made


def tun_node(folder: Path, mode: int) -> Path:
    """A TUN device of our own; only root can make one."""
    node = folder / f"tun-{mode:o}-{os.getpid()}"
    if not node.exists():
        os.mknod(node, stat.S_IFCHR | mode, os.makedev(10, 200))
        node.chmod(mode)
    return node


def served(command: str, port: int) -> str:
    """A script that runs a server and says "ready" when it listens."""
    listens = f"grep -q ':{port:04X} 0*:0000 0[7A]' /proc/net/tcp /proc/net/tcp6 /proc/net/udp"
    wait = f"until {listens}; do kill -0 $! || exit; done"
    return f"trap 'exit 0' TERM; {command} & {wait}; echo ready; wait"


def ask(port: int, text: bytes = b"", address: str = "127.0.0.1") -> bytes:
    """All that a tcp server says."""
    with socket.create_connection((address, port), 10) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def free_port() -> int:
    """A port that nothing had a moment ago."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        port: int = sock.getsockname()[1]
        return port
