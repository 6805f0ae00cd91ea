"""Messages between a container's supervisor and the commands that ask it: JSON in packets, with descriptors.

The socket lies in the container's directory, which is closed to other users. A request names its ``op``; the
answer has ``error`` (and ``hint``) where it failed. What else they hold stands with the supervisor's
operations (buildkit_py.runtime.supervisor). The messages outlive a version of pybuild: a container may have
been started by an older one.
"""

from __future__ import annotations

import _socket
import array
import json
import os

from buildkit_py.errors import PybuildError
from buildkit_py.typed import Any

Message = dict[str, Any]
Connection = _socket.socket

_SIZE = 256 << 10
"""Bytes of the largest packet."""
_LARGE = 128 << 10
"""What is larger goes along as a file, the last descriptor."""
_IN_FILE = b'"in the last descriptor"'
SOCKET = "socket"
CRASH = "crash"
"""A file beside it: what a supervisor died of, where that was no signal."""


def pair() -> tuple[_socket.socket, _socket.socket]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def send(sock: _socket.socket, message: Message, fds: tuple[int, ...] = ()) -> None:
    """Raises BrokenPipeError where the other end is gone, another OSError where it takes no more."""
    data = json.dumps(message).encode()
    file = -1
    if len(data) > _LARGE:
        # An environment may be larger than what a socket takes.
        file = os.memfd_create("message", os.MFD_CLOEXEC)
        with open(file, "wb", closefd=False) as f:
            f.write(data)
        data, fds = _IN_FILE, (*fds, file)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        sock.sendmsg([data], rights, _socket.MSG_NOSIGNAL)
    except ConnectionResetError:
        # A listener that closed tells those whom it never accepted in this way.
        raise BrokenPipeError from None
    finally:
        if file >= 0:
            os.close(file)


def receive(sock: _socket.socket) -> tuple[Message | None, list[int]]:
    """The next message and its descriptors; None where the other end is gone."""
    fds = array.array("i")
    try:
        data, ancillary, _, _ = sock.recvmsg(_SIZE, _socket.CMSG_SPACE(8 * 4), _socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None, []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if data == _IN_FILE:
        with open(fds.pop(), "rb") as f:
            f.seek(0)
            data = f.read()
    return (json.loads(data) if data else None), list(fds)


def listen(directory: str) -> _socket.socket:
    """The supervisor's end, in place of one that a dead supervisor left."""
    sock = _new()
    try:
        os.unlink(os.path.join(directory, SOCKET))
    except FileNotFoundError:
        pass
    _by_short_name(directory, sock.bind)
    sock.listen(64)
    return sock


def connect(directory: str) -> _socket.socket | None:
    """A connection to the supervisor; None where there is none."""
    sock = _new()
    try:
        _by_short_name(directory, sock.connect)
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    return sock


def ask(directory: str, message: Message) -> Message | None:
    """One question and its answer; None where there is no supervisor. Raises PybuildError with its error."""
    sock = connect(directory)
    if sock is None:
        return None
    try:
        send(sock, message)
        answer, _ = receive(sock)
    except BrokenPipeError:
        return None
    finally:
        sock.close()
    return None if answer is None else checked(answer)


def checked(answer: Message) -> Message:
    """The answer, where it is none of an error."""
    if "error" in answer:
        raise PybuildError(answer["error"], hint=answer.get("hint", ""))
    return answer


def _new() -> _socket.socket:
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def _by_short_name(directory: str, use: Any) -> None:
    """sockaddr_un holds 108 bytes, and a store may lie anywhere: name the socket by its opened directory."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{fd}/{SOCKET}")
    finally:
        os.close(fd)
