"""A machine that is a network namespace: its devices, routes, rules and settings are the test's alone.

    outside ── m0 [machine] p0 ── neighbour

The machine's default route goes by ``outside``; ``neighbour`` is one more network beside it. It does not
forward. Only root can make one.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from buildkit_py.linux import syscalls as sc
from tests.support import leaks

T = TypeVar("T")
ENVIRONMENT = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}


class Namespace:
    """A network namespace, for as long as its process lives."""

    def __init__(self) -> None:
        # Its first line comes back when it has left our namespace.
        self._process = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.read(1) == b"\n"
        self.path = f"/proc/{self._process.pid}/ns/net"
        self.run("ip", "link", "set", "lo", "up")

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    @property
    def enter(self) -> tuple[str, ...]:
        """The beginning of a command line in it."""
        return ("nsenter", f"--net={self.path}")

    def run(self, *argv: str, status: int | None = 0) -> str:
        done = subprocess.run([*self.enter, *argv], env=ENVIRONMENT, capture_output=True, text=True)
        assert status is None or done.returncode == status, (argv, done.stderr)
        return done.stdout

    def set(self, name: str, value: str) -> None:
        self.run("sh", "-c", f"echo {value} > /proc/sys/{name.replace('.', '/')}")

    def get(self, name: str) -> str:
        return self.run("cat", f"/proc/sys/{name.replace('.', '/')}").strip()

    def within(self, work: Callable[[], T]) -> T:
        """What a function gives that runs in it: a socket that it makes stays there."""
        results: list[T] = []

        def visit() -> None:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sc.setns(fd, sc.CLONE_NEWNET)
            finally:
                os.close(fd)
            results.append(work())

        thread = threading.Thread(target=visit)
        thread.start()
        thread.join()
        return results[0]


class Machine(Namespace):
    ADDRESS = "198.18.1.1"
    """Of the machine, as the outside sees it."""
    OUTSIDE = "198.18.1.2"
    NEIGHBOUR = "198.18.2.2"

    def __init__(self) -> None:
        self._stack = ExitStack()
        try:
            super().__init__()
            self._stack.callback(super().close)
            self.set("net.ipv4.ip_forward", "0")
            self.outside = self._beside("m0", "198.18.1")
            self.neighbour = self._beside("p0", "198.18.2")
            self.run("ip", "route", "add", "default", "via", self.OUTSIDE)
        except BaseException:
            self._stack.close()
            raise

    def _beside(self, device: str, net: str) -> Namespace:
        other = Namespace()
        self._stack.callback(other.close)
        pid = other.path.split("/")[2]
        self.run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", pid)
        self.run("ip", "addr", "add", f"{net}.1/24", "dev", device)
        self.run("ip", "link", "set", device, "up")
        other.run("ip", "addr", "add", f"{net}.2/24", "dev", "eth0")
        other.run("ip", "link", "set", "eth0", "up")
        other.run("ip", "route", "add", "default", "via", f"{net}.1")
        # The kernel tells of a carrier in its own time; until then the device's routes say "linkdown".
        down = leaks.patiently(lambda: frozenset(() if self._up(device) else (device,)), frozenset())
        assert down == []
        return other

    def _up(self, device: str) -> bool:
        return "state UP" in self.run("ip", "-o", "link", "show", device)

    def close(self) -> None:
        # What was turned on stands in a file; it would be another namespace's that gets the same number.
        record = Path(f"/run/pybuild/forwarding-{os.stat(self.path).st_ino}")
        left = leaks.patiently(lambda: frozenset({record} if record.exists() else ()), frozenset())
        record.unlink(missing_ok=True)
        self._stack.close()
        assert left == []

    def state(self) -> frozenset[str]:
        """Its devices, addresses, routes, rules and what forwards."""
        parts = [
            self.run("ip", "-o", "-4", "addr"),
            self.run("ip", "-o", "link").replace(",LOWER_UP", ""),
            self.run("ip", "route"),
            self.run("nft", "list", "ruleset"),
            # A device may go meanwhile.
            self.run("sh", "-c", "cd /proc/sys/net/ipv4 && grep -s . ip_forward conf/*/forwarding || true"),
        ]
        return frozenset(line.strip() for part in parts for line in part.splitlines())
