"""Work in another network namespace than the process's own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from buildkit_py.linux import syscalls as sc
from buildkit_py.network import filter
from buildkit_py.network.netlink import Netlink
from buildkit_py.network.worker import Worker
from buildkit_py.typed import TypeVar

T = TypeVar("T")


class Inside(Worker):
    """The thread that lives in R."""

    def __init__(self, adopted: int) -> None:
        super().__init__()
        self.namespace = self(lambda: self._enter(adopted))

    @staticmethod
    def _enter(adopted: int) -> int:
        if adopted < 0:
            sc.unshare(sc.CLONE_NEWNET)
        else:
            sc.setns(adopted, sc.CLONE_NEWNET)
        with Netlink() as netlink:
            netlink.set_up("lo")
            for name in netlink.links():
                # What a holder that died left: the containers will be plugged in anew.
                if name.startswith(("pb", "v", filter.UPLINK)):
                    netlink.remove(name)
            wait_until(lambda: not netlink.index(filter.UPLINK))
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def within(namespace: int, work: Callable[[], T]) -> T:
    """Run ``work`` in another network namespace and come back."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.setns(namespace, sc.CLONE_NEWNET)
        try:
            return work()
        finally:
            sc.setns(home, sc.CLONE_NEWNET)
    finally:
        os.close(home)


def wait_until(done: Callable[[], bool]) -> None:
    """For what the kernel tells nobody of: a program that was told to end closes its device soon after."""
    end = time.monotonic() + 5
    while not done() and time.monotonic() < end:
        time.sleep(0.005)
