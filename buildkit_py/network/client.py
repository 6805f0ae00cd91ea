"""Talking to the network holder of a store (buildkit_py.network.holder); started where there is none."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time

from buildkit_py.errors import NetworkError
from buildkit_py.linux import locks
from buildkit_py.network import ahead
from buildkit_py.typed import Any

Json = dict[str, Any]
PACKET = 128 << 10
"""Bytes that a question or an answer may have."""
_PATIENCE = 30.0
"""Seconds that an answer may take: slirp4netns may have to be started for it."""
_TRIES, _PAUSE = 250, 0.02
"""How often, and after how many seconds, to look again for a holder that others start."""


class Link:
    """A connection to the holder. What it attaches is attached until it is closed.

    ``namespace`` is a descriptor of R, where the bridges are; ``user`` one of N, the user namespace that a
    process must be in to attach; it may be this process's own.
    """

    def __init__(self, sock: socket.socket, namespace: int, user: int) -> None:
        self._sock = sock
        self.namespace = namespace
        self.user = user

    def ask(self, op: str, fds: tuple[int, ...] = (), **fields: Any) -> Json:
        """Raises NetworkError for what the holder refuses, and where it is gone."""
        try:
            data = json.dumps({"op": op, **fields}).encode()
            socket.send_fds(self._sock, [data], fds, socket.MSG_NOSIGNAL)
            answer = self._sock.recv(PACKET)
        except OSError as e:
            raise NetworkError(f"the network holder is gone: {e.strerror or 'no answer'}") from e
        return _checked(answer)

    def fileno(self) -> int:
        """Readable when the holder is gone, and while it answers."""
        return self._sock.fileno()

    def holds(self) -> bool:
        """Whether the holder is still there."""
        try:
            self.ask("ping")
        except NetworkError:
            return False
        return True

    def close(self) -> None:
        """Take everything off that was attached. Safe to call twice."""
        if self._sock.fileno() < 0:
            return
        self._sock.close()
        for fd in (self.namespace, self.user):
            os.close(fd)


def _checked(answer: bytes) -> Json:
    if not answer:
        raise NetworkError("the network holder is gone")
    message: Json = json.loads(answer)
    if "error" in message:
        raise NetworkError(message["error"], hint=message.get("hint", ""))
    return message


def folder_of(root: str) -> str:
    return os.path.join(root, "network")


def leases_of(root: str) -> str:
    """A file that is locked, shared, by whoever keeps a container on its networks."""
    return os.path.join(folder_of(root), "leases")


def open_link(root: str, adopted: int = -1) -> Link:
    """Connect to the holder of the store ``root``, which is started where there is none.

    ``adopted``: the R of a holder that died, for the new one. Only in a process with one thread, for it
    forks. Raises NetworkError.
    """
    folder = folder_of(root)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for _ in range(_TRIES):
        link = find(root) or _start(folder, adopted)
        if link is not None:
            return link
        # The holder died, and those whose containers it held are about to start another one.
        time.sleep(_PAUSE)
    raise NetworkError("the network holder does not answer", hint="try again")


def find(root: str) -> Link | None:
    """Connect to the holder where there is one."""
    raw = ahead.connect(folder_of(root))
    if raw is None:
        return None
    sock = socket.socket(fileno=raw.detach())
    sock.settimeout(_PATIENCE)
    try:
        socket.send_fds(sock, [b'{"op": "hello"}'], (), socket.MSG_NOSIGNAL)
        data, fds, _, _ = socket.recv_fds(sock, PACKET, 4, socket.MSG_CMSG_CLOEXEC)
    except OSError:
        # None there, or it was just about to end.
        sock.close()
        return None
    if len(fds) != 2:
        sock.close()
        return None
    _checked(data)
    return Link(sock, *fds)


def _lock(folder: str) -> int:
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _start(folder: str, adopted: int) -> Link | None:
    lock = _lock(folder)
    try:
        root = os.path.dirname(folder)
        link = find(root)
        if link is None and (adopted >= 0 or not locks.held(leases_of(root))):
            _fork(folder, adopted)
            link = find(root)
        return link
    finally:
        os.close(lock)


def be_holder(root: str, client: int) -> None:
    """Be the holder of a store, unless there is one by now. ``client`` is its first client's connection."""
    lock = _lock(folder_of(root))
    if find(root) is None and not locks.held(leases_of(root)):
        from buildkit_py.network import holder

        holder.main(folder_of(root), os.open(os.devnull, os.O_WRONLY), first=client, lock=lock)


def _fork(folder: str, adopted: int) -> None:
    """Start the holder, a child of nobody, and wait until it listens."""
    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.fork() == 0:
                from buildkit_py.network import holder

                holder.main(folder, ready_w, adopted)
        finally:
            os._exit(0)
    os.close(ready_w)
    os.waitpid(pid, 0)
    with open(ready_r, "rb") as f:
        _checked(f.read())
