"""The devices of a fresh network namespace, seen from inside."""

from __future__ import annotations

import _socket
import fcntl
import struct
import time

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def bring_up() -> None:
    """Set the loopback device up. Needs CAP_NET_ADMIN over the namespace."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
    finally:
        sock.close()


def wait_for(device: str, seconds: float) -> bool:
    """Whether a device comes up, with a default route, within the time. pasta announces itself so alone."""
    end = time.monotonic() + seconds
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        while not (_is_up(sock, device) and _has_route()):
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True
    finally:
        sock.close()


def _is_up(sock: _socket.socket, device: str) -> bool:
    try:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, struct.pack("16sH22x", device.encode(), 0))
    except OSError:
        return False
    flags: int = struct.unpack("16xH22x", answer)[0]
    return bool(flags & _IFF_UP)


def _has_route() -> bool:
    with open("/proc/self/net/route") as f:
        return any(line.split("\t")[1:2] == ["00000000"] for line in f)
