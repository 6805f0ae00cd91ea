"""Messages between the main process, the starter and the sandboxes: marshal in packets.

The parties are forks of one process, so nothing hostile can be in a message; marshal is four times as
fast as json, takes bytes and surrogates, and costs no import.
"""

from __future__ import annotations

import _socket
import array
import marshal
import struct

from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec
from buildkit_py.typed import Any

_CHUNK = 64 << 10
"""A packet's size: well below the smallest default send buffer."""

Message = tuple[Any, ...]
"""Its kind, a str, then what belongs to it."""


def pair() -> tuple[_socket.socket, _socket.socket]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def send(sock: _socket.socket, message: Message, fds: tuple[int, ...] = ()) -> None:
    """One small message, with descriptors. OSError where the other end is gone."""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([marshal.dumps(message)], rights, _socket.MSG_NOSIGNAL)


def receive(sock: _socket.socket) -> tuple[Message | None, list[int]]:
    """The next message and its descriptors; None where the other end is gone."""
    fds = array.array("i")
    try:
        data, ancillary, _, _ = _next(sock)
    except ConnectionResetError:
        # Told once, ahead of what is queued, where the other end closed with messages of ours unread.
        data, ancillary, _, _ = _next(sock)
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return (marshal.loads(data) if data else None), list(fds)


def _next(sock: _socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
    return sock.recvmsg(_CHUNK, _socket.CMSG_SPACE(8 * 4), _socket.MSG_CMSG_CLOEXEC)


def send_spec(sock: _socket.socket, spec: SandboxSpec) -> None:
    """A spec of any size (environments and secrets may be large)."""
    index = SandboxSpec._fields.index("mounts")
    plain: list[Any] = list(spec)
    plain[index] = [tuple(mount) for mount in spec.mounts]
    data = marshal.dumps(plain)
    sock.send(struct.pack("Q", len(data)), _socket.MSG_NOSIGNAL)
    for start in range(0, len(data), _CHUNK):
        sock.send(data[start : start + _CHUNK], _socket.MSG_NOSIGNAL)


def receive_spec(sock: _socket.socket) -> SandboxSpec:
    """Raises EOFError where the sender is gone."""
    header = sock.recv(8)
    if len(header) != 8:
        raise EOFError
    left = struct.unpack("Q", header)[0]
    chunks = []
    while left:
        chunk = sock.recv(_CHUNK)
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        left -= len(chunk)
    spec = SandboxSpec(*marshal.loads(b"".join(chunks)))
    return spec._replace(mounts=tuple(SandboxMount(*m) for m in spec.mounts))
