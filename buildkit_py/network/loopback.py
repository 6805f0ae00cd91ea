"""The loopback device of a fresh network namespace."""

from __future__ import annotations

import _socket
import fcntl
import struct

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def bring_up() -> None:
    """Needs CAP_NET_ADMIN over the namespace."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
    finally:
        sock.close()
