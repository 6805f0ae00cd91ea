"""The same work for several things at once, in threads that nobody waits for after an interrupt."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from buildkit_py.solver.solve import LOOK_FOR_SIGNALS
from buildkit_py.typed import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def all_of(
    items: Sequence[_T], work: Callable[[_T], _R], threads: int, cancel: Callable[[], None] = lambda: None
) -> list[_R]:
    """``work`` of each item, in their order, ``threads`` at a time. Raises the first error.

    After an error or an interrupt no new item is begun, and ``cancel`` is called, which may end those that
    are under way. The threads are daemons: an interrupt must not wait for the network.
    """
    done: dict[int, _R] = {}
    errors: deque[BaseException] = deque()
    queue = deque(enumerate(items))
    finished = threading.Semaphore(0)

    def stop() -> None:
        queue.clear()
        cancel()

    def run() -> None:
        try:
            while True:
                try:
                    number, item = queue.popleft()
                except IndexError:
                    return
                done[number] = work(item)
        except BaseException as e:
            errors.append(e)
            stop()
        finally:
            finished.release()

    count = min(threads, len(items))
    try:
        for number in range(count):
            threading.Thread(target=run, daemon=True, name=f"upload {number}").start()
        for _ in range(count):
            while not finished.acquire(timeout=LOOK_FOR_SIGNALS):
                pass
    except BaseException:
        stop()
        raise
    if errors:
        raise errors[0]
    return [done[number] for number in range(len(items))]
