"""One build at a time runs a step: others that want the same one wait, and take what it made.

``<store>/steps.lock`` is an empty file; a step's key is the place in it that is locked, by an open file of
its own, so that two steps of one process exclude each other too. A lock ends with its process, however that
ends, and nothing is left to clean up. Who waits holds no lock that a running step could want: a step's other
locks (those of its cache mounts) are taken inside of this one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from buildkit_py.errors import PybuildError
from buildkit_py.linux.locks import open_lock, take_byte
from buildkit_py.llb.graph import Node
from buildkit_py.progress.events import Emit, LogEvent
from buildkit_py.solver.types import Key
from buildkit_py.worker.context import BuildContext

_TOLD = b"another build is running this step; waiting for it\n"
_TOLD_AFTER = 1.0
_PAUSES = (0.002, 0.1)
"""Seconds. The shortest and the longest time between two looks: the kernel would wait for us, but could not
be told that the build was cancelled."""


@contextmanager
def claimed(ctx: BuildContext, node: Node, key: Key, emit: Emit) -> Iterator[None]:
    """Have the step of a key for this thread alone. Raises PybuildError where the build is cancelled
    meanwhile."""
    fd = open_lock(os.path.join(ctx.root, "steps.lock"))
    try:
        position = int(key.digest[7:22], 16)
        if not take_byte(fd, position):
            _wait(ctx, fd, position, node, emit)
        yield
    finally:
        os.close(fd)


def _wait(ctx: BuildContext, fd: int, position: int, node: Node, emit: Emit) -> None:
    pause, longest = _PAUSES
    began = time.monotonic()
    told = False
    while not take_byte(fd, position):
        if ctx.cancelled:
            raise PybuildError("canceled while another build ran this step")
        if not told and time.monotonic() - began > _TOLD_AFTER:
            told = True
            emit(LogEvent(node.digest, 2, _TOLD, time.time()))
        time.sleep(pause)
        pause = min(pause * 1.5, longest)
