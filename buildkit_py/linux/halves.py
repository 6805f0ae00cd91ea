"""Work on both cores of a small machine, for loops of short system calls.

Threads don't help there: between two system calls a thread holds the interpreter's lock, and handing it
over takes longer than the call (measured on CPython 3.11: 50,000 small files copied by two threads take
as long as by one, by two processes 55 to 60 %). So one half is done in a forked child.

The child has this thread alone and does nothing but ``work`` and leave: it may not log, import, take a
lock or touch a database. It ends when its parent does.
"""

from __future__ import annotations

import gc
import marshal
import os
import sys
from collections.abc import Callable

from buildkit_py import errors
from buildkit_py.typed import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from types import ModuleType

T = TypeVar("T")
_SIGKILL = 9  # the signal module costs 2 ms on the path of every build


def in_halves(work: Callable[[T], Any], here: T, there: T) -> tuple[Any, Any]:
    """(work(here), work(there)), the second done by a child. Results are plain values (marshal).

    ``work`` must come to the same when it is begun again: where a child can't be made or is killed, its
    half is done here. Raises what work raises; from the child as a PybuildError of the same class.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return work(here), work(there)
    from buildkit_py.linux import syscalls

    read, write = os.pipe()
    parent = os.getpid()
    try:
        pid = _fork()
    except OSError:
        os.close(read)
        os.close(write)
        return work(here), work(there)
    if pid == 0:
        _child(work, there, write, parent, syscalls)
    os.close(write)
    try:
        mine = work(here)
        data = _read_all(read)
    except BaseException:
        os.kill(pid, _SIGKILL)
        raise
    finally:
        os.close(read)
        os.waitpid(pid, 0)
    if not data:
        return mine, work(there)
    failure, theirs = marshal.loads(data)
    if failure is not None:
        name, message, hint = failure
        raise getattr(errors, name, errors.PybuildError)(message, hint=hint)
    return mine, theirs


def _fork() -> int:
    if sys.version_info < (3, 12):
        return os.fork()
    import warnings

    with warnings.catch_warnings():
        # "use of fork() may lead to deadlocks in the child": not in one that takes no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _child(work: Callable[[T], Any], there: T, write: int, parent: int, syscalls: ModuleType) -> NoReturn:
    status = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
        if os.getppid() != parent:
            os._exit(status)
        gc.disable()  # a collection would write to, and so copy, every page of the parent's heap
        try:
            data = marshal.dumps((None, work(there)))
        except errors.PybuildError as e:
            data = marshal.dumps(((type(e).__name__, e.message, e.hint), None))
        view = memoryview(data)
        while view:
            view = view[os.write(write, view) :]
        status = 0
    finally:
        os._exit(status)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)
