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

from buildkit_py.network import routes, uplink
from buildkit_py.network.private import TUN
from tests.support import leaks
from tests.support.people import available
from tests.support.registry import Registry
from tests.support.runner import Pybuild

HIDDEN = Path("/dev/null")
"""To be mounted over a program, which is missing then."""
SYSTEM = "/usr/sbin:/sbin:/usr/bin:/bin"


def on_the_host(host: Host) -> frozenset[str]:
    """What the host's network has of a store: its device, with the routes by it, and its table of rules.

    By name, for others on the machine, and other tests, may be at work there.
    """
    device = uplink.host_device(host.environment["PYBUILD_ROOT"] + "/network")
    found = {f"device {name}" for name in os.listdir("/sys/class/net") if name in (device, "up0")}
    found |= {f"route {route.subnet}" for route in routes.read() if route.device == device}
    if os.geteuid() == 0:
        found |= {f"rule {line}" for line in listed("nft", "list", "tables") if device in line}
        found |= {f"rule {line}" for line in listed("iptables", "-S") if device in line}
    return frozenset(found)


def listed(*argv: str) -> list[str]:
    if not shutil.which(argv[0], path=SYSTEM):
        return []
    done = subprocess.run(argv, env={"PATH": SYSTEM}, capture_output=True, text=True)
    return done.stdout.splitlines()


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


Make = Callable[[str, Path], Pybuild]


@contextmanager
def at_work(kind: str, bases: Registry, people_at_work: Make, workshop: Path) -> Iterator[Host]:
    made = people_at_work(kind, bases.settings)
    made.__class__ = Host
    assert isinstance(made, Host)
    made.mounts = {}
    if kind != "root" and "root" in available() and not open_to_all():
        made.mounts[TUN] = tun_node(workshop, 0o666)
    yield made
    # The holder ends a moment after its last container.
    assert leaks.patiently(lambda: on_the_host(made), frozenset()) == []


@pytest.fixture
def host(each_identity: str, bases: Registry, people_at_work: Make, workshop: Path) -> Iterator[Host]:
    with at_work(each_identity, bases, people_at_work, workshop) as made:
        yield made


@pytest.fixture
def root_host(bases: Registry, people_at_work: Make, workshop: Path) -> Iterator[Host]:
    with at_work("root", bases, people_at_work, workshop) as made:
        yield made


another_root_host = root_host


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
