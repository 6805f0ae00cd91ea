"""A network namespace of its own, for a container that is yet to come."""

from __future__ import annotations

import _thread
import os

from buildkit_py.linux import syscalls as sc


def create() -> int:
    """A descriptor of a new network namespace; it lasts as long as that, or a process in it.

    Made by a thread, for a network namespace is a thread's own: that takes 0.1 ms, a fork 2. The thread is
    gone when this returns, so the process may fork. Raises SandboxError.
    """
    made: list[int | BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()
    ids: list[int] = []

    def leave() -> None:
        try:
            ids.append(_thread.get_native_id())
            sc.unshare(sc.CLONE_NEWNET)
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except BaseException as e:
            made.append(e)
        finally:
            done.release()

    _thread.start_new_thread(leave, ())
    done.acquire()
    while ids and os.path.exists(f"/proc/self/task/{ids[0]}"):
        os.sched_yield()
    (result,) = made
    if isinstance(result, BaseException):
        raise result
    return result
