"""A private network: an outside program carries the traffic of a sandbox's network namespace.

slirp4netns(1) is taken first: it is ready in 5 ms and works as root; pasta(1) takes up to 90 ms and
refuses to. Both need /dev/net/tun.
"""

from __future__ import annotations

import os
import select

from buildkit_py.errors import SandboxError
from buildkit_py.network.resolv import SLIRP_ADDRESS, SLIRP_GATEWAY, SLIRP_NAMESERVER

TUN = "/dev/net/tun"
TUN_MEND = "sudo modprobe tun; sudo chmod 0666 /dev/net/tun"
INSTALL_MEND = "sudo apt-get install slirp4netns"
_SIGPIPE = 13  # the signal module costs 2 ms
_PATIENCE = 10_000
"""Milliseconds that a program gets to connect the namespace."""
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}


def program() -> str:
    """The path of slirp4netns or pasta, "" where the system has neither."""
    folders = os.environ.get("PATH", "").split(":") + _ENV["PATH"].split(":")
    for name in ("slirp4netns", "pasta"):
        for folder in folders:
            path = f"{folder}/{name}"
            if folder.startswith("/") and os.access(path, os.X_OK):
                return path
    return ""


def connect(namespace: int, *, device: str = "eth0", exit_fd: int = -1) -> int:
    """Connect a network namespace (its descriptor); the pid of the program that does so, a child.

    ``device`` is what it is called there. ``exit_fd``: the reading end of a pipe; the program ends when the
    other end is closed (pasta: when this process ends).

    SandboxError where it can't be: with the command that mends it.
    """
    error = obstacle()
    if error is not None:
        raise error
    return _start(program(), namespace, device, exit_fd)


def obstacle() -> SandboxError | None:
    """What keeps this machine from private networks, if anything does."""
    if not program():
        return SandboxError(
            "a private network needs slirp4netns or pasta, and neither is installed",
            call="slirp4netns",
            hint=f"`{INSTALL_MEND}`, or use the host's network: --network=host",
        )
    if not os.access(TUN, os.R_OK | os.W_OK):
        return SandboxError(
            f"a private network needs {TUN}, which is missing or closed to this user",
            call=TUN,
            hint=f"`{TUN_MEND}`, or use the host's network: --network=host",
        )
    return None


def _arguments(path: str, namespace: int, device: str, ready: int, exit_fd: int) -> list[str]:
    target = f"/proc/self/fd/{namespace}"
    if os.path.basename(path) == "slirp4netns":
        options = "--configure --mtu=65520 --disable-host-loopback --enable-sandbox --netns-type=path"
        ends = [f"--exit-fd={exit_fd}"] if exit_fd >= 0 else []
        return [path, *options.split(), *ends, f"--ready-fd={ready}", target, device]
    options = "--config-net --foreground --quiet --no-map-gw -t none -u none -T none -U none"
    # By itself it takes the host's address, so that the host could not be reached.
    options += f" -a {SLIRP_ADDRESS} -n 24 -g {SLIRP_GATEWAY}"
    # It has no --exit-fd. setpriv(1) has the kernel kill it.
    mortal = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"] if exit_fd >= 0 else []
    rest = ["--ns-ifname", device, "--dns-forward", SLIRP_NAMESERVER, "--netns", target]
    rest += ["--pid", f"/proc/self/fd/{ready}"]
    return [*mortal, path, *options.split(), *rest]


def _start(path: str, namespace: int, device: str, exit_fd: int) -> int:
    ready_r, ready_w = os.pipe()
    said_r, said_w = os.pipe()
    try:
        for fd in (namespace, ready_w, exit_fd):
            if fd >= 0:
                os.set_inheritable(fd, True)
        streams = [(os.POSIX_SPAWN_DUP2, said_w, 1), (os.POSIX_SPAWN_DUP2, said_w, 2)]
        arguments = _arguments(path, namespace, device, ready_w, exit_fd)
        # pasta takes an ignored SIGPIPE, which Python hands on, for a failure.
        pid = os.posix_spawn(arguments[0], arguments, _ENV, file_actions=streams, setsigdef=[_SIGPIPE])
        os.set_inheritable(ready_w, False)
        os.close(ready_w)
        os.close(said_w)
        ready_w = said_w = -1
        if _wait(ready_r):
            return pid
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        raise SandboxError(
            f"{path} could not connect the sandbox's network: {_words(said_r)}",
            call=os.path.basename(path),
            hint="use the host's network: --network=host",
        )
    finally:
        for fd in (ready_r, said_r, ready_w, said_w):
            if fd >= 0:
                os.close(fd)


def _wait(ready: int) -> bool:
    """slirp4netns writes "1" when the namespace is connected, pasta its pid; both close it when they fail."""
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    return bool(poll.poll(_PATIENCE)) and os.read(ready, 16) != b""


def _words(fd: int) -> str:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 4096).decode("utf-8", "replace").strip().replace("\n", "; ") or "no reason given"
    except BlockingIOError:
        return "no reason given"
