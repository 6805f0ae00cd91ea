"""Starting the network holder ahead: while a command looks its image up and makes its container.

Light, for the command itself goes on: what is heavy is loaded in the child.
"""

from __future__ import annotations

import _socket
import os

_KIND = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC


class Ahead:
    """A holder that is there, or is being started; it stays until this is closed."""

    def __init__(self, sock: _socket.socket, pid: int) -> None:
        self._sock = sock
        self._pid = pid

    def reap(self) -> None:
        """The holder's parent ends at once, so that it is nobody's child. Safe to call twice."""
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0

    def close(self) -> None:
        """Safe to call twice."""
        self._sock.close()
        self.reap()


def start(root: str) -> Ahead:
    """Have the holder of the store ``root`` started where there is none; open_link() will find it, and tells
    what went wrong.

    Only in a process with one thread, for it forks. Raises OSError.
    """
    folder = os.path.join(root, "network")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    sock = connect(folder)
    if sock is not None:
        return Ahead(sock, 0)
    mine, theirs = _socket.socketpair(_socket.AF_UNIX, _KIND)
    pid = os.fork()
    if pid == 0:
        try:
            if os.fork() == 0:
                from buildkit_py.network import client

                client.be_holder(root, theirs.fileno())
        finally:
            os._exit(0)
    theirs.close()
    return Ahead(mine, pid)


def connect(folder: str) -> _socket.socket | None:
    """A connection to the holder; None where there is none."""
    sock = _socket.socket(_socket.AF_UNIX, _KIND)
    here = -1
    try:
        here = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        # A socket's path may have 107 bytes, a store's more.
        sock.connect(f"/proc/self/fd/{here}/holder")
    except OSError:
        sock.close()
        return None
    finally:
        if here >= 0:
            os.close(here)
    return sock
