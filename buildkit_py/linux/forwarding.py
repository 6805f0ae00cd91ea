"""Forwarding of this machine's devices (net.ipv4.conf.DEVICE.forwarding), turned on where it is off.

Answers from the world arrive at the device by which questions left, and are passed on to a container only
where that device forwards. The devices that were turned on stand in a file for each network namespace, with
the lock of their folder held: the last user turns them off again, also what others left who were killed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from buildkit_py.errors import NetworkError
from buildkit_py.linux import caps, hints, smallfiles, userns
from buildkit_py.linux import syscalls as sc

_FOLDER = "/run/pybuild"
_SYSCTL = "/proc/sys/net/ipv4"


def everywhere() -> bool:
    """Whether the machine forwards anyway (net.ipv4.ip_forward): then all of this is none of our business."""
    return smallfiles.read(f"{_SYSCTL}/ip_forward").strip() == "1"


def pair_obstacle() -> str:
    """What keeps root from connecting the host with networks by a pair of devices, as far as can be told at
    once (buildkit_py.network.uplink); "" where it will most likely come about."""
    if not sc.capget()[0] & caps.NET_ADMIN:
        return "CAP_NET_ADMIN is missing"
    if not userns.find("nft"):
        return f"nft is not installed: `{hints.INSTALL} nftables`"
    return obstacle()


def obstacle() -> str:
    """Why forwarding can't be turned on here; "" where it can, or is."""
    if everywhere():
        return ""
    if not os.access(f"{_SYSCTL}/conf/all/forwarding", os.W_OK):
        return "net.ipv4.ip_forward is 0, and /proc/sys can't be written"
    if not os.access("/run", os.W_OK):
        return "net.ipv4.ip_forward is 0, and /run can't be written"
    return ""


def turn_on(own: str, others: Iterable[str]) -> tuple[str, ...]:
    """Have ``own`` and ``others`` forward; those of the others that do so because of us or another pybuild.

    Raises NetworkError.
    """
    if everywhere():
        # What is on now is the machine's own.
        forget()
        return ()
    try:
        with _record() as path:
            known = set(smallfiles.read(path).split())
            for device in others:
                if smallfiles.read(_setting(device)).strip() == "0":
                    # First: what is not written down is never turned off.
                    known.add(device)
                    _write(path, "\n".join(sorted(known)))
                    _write(_setting(device), "1")
            _write(_setting(own), "1")
            return tuple(sorted(known))
    except OSError as e:
        raise NetworkError(f"cannot turn forwarding on: {e.filename}: {e.strerror}") from e


def forget() -> None:
    """Leave what was turned on as it is."""
    if os.path.isdir(_FOLDER):
        try:
            with _record() as path:
                os.unlink(path)
        except OSError:
            pass


def turn_off(in_use: bool) -> None:
    """Turn off what was turned on, unless it is in use by another pybuild, or the machine forwards by now."""
    if in_use or not os.path.isdir(_FOLDER):
        return
    try:
        with _record() as path:
            if not os.path.exists(path):
                return
            if not everywhere():
                for device in smallfiles.read(path).split():
                    if os.path.exists(_setting(device)):
                        _write(_setting(device), "0")
            os.unlink(path)
    except OSError:
        # The device is gone, or /proc/sys read-only by now.
        pass


@contextmanager
def _record() -> Iterator[str]:
    """The file of this process's network namespace, which need not exist; nobody else has it meanwhile."""
    os.makedirs(_FOLDER, mode=0o700, exist_ok=True)
    folder = os.open(_FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield f"{_FOLDER}/forwarding-{os.stat('/proc/self/ns/net').st_ino}"
    finally:
        os.close(folder)


def _setting(device: str) -> str:
    return f"{_SYSCTL}/conf/{device}/forwarding"


def _write(path: str, text: str) -> None:
    with open(path, "w") as f:
        f.write(text)
