"""The garbage collector: at the end of a build in which something ran, where the policy asks for it.

Most builds pay for one stat(2). The file ``gc`` of the store holds the time of the last look; before
``interval`` is over there is none. Then statvfs(2) tells whether the file system, and so the cache on it,
can be beyond a limit at all; only if it is, or once a day, is the cache measured and the policy followed.
Where other processes use the store, steps alone are collected, and in two goes (buildkit_py.engine.garbage).
Never what a container or an image stands on (unless a rule says ``all``, which forgets steps, not images). It
never makes a build fail.
"""

from __future__ import annotations

import os
import time

from buildkit_py.progress.events import Emit, LogEvent, StatusEvent, VertexEvent
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.cache.eviction import Rule
    from buildkit_py.engine import Engine

_VERTEX, _NAME = "internal:gc", "[internal] collect garbage"
_OFTEN = 60.0
_SELDOM = 86400.0
"""Seconds: how soon after a look there is none, whatever the policy says of it; when there is one at last."""


def collect(engine: Engine, emit: Emit) -> None:
    from buildkit_py.errors import PybuildError

    try:
        _look(engine, emit)
    except (PybuildError, OSError) as e:
        now = time.time()
        emit(VertexEvent(_VERTEX, _NAME, started=now))
        emit(LogEvent(_VERTEX, 2, f"garbage was not collected: {e}\n".encode(), now))
        emit(VertexEvent(_VERTEX, _NAME, started=now, completed=time.time()))


def _look(engine: Engine, emit: Emit) -> None:
    if os.path.exists(os.path.join(engine.root, "lock.old")):
        from buildkit_py.engine.garbage import sweep_marked

        began = time.time()
        freed = sweep_marked(engine, wait=False)
        if freed:
            _tell(emit, began, "removed what was forgotten earlier", freed)
    mark = os.path.join(engine.root, "gc")
    try:
        age = time.time() - os.stat(mark).st_mtime
    except FileNotFoundError:
        _touch(mark)
        age = 0.0
    from buildkit_py.cache import policy

    if age < _OFTEN and not policy.path():
        return
    found = policy.load(engine.disk)
    if not found.rules or age < found.interval or not (age > _SELDOM or beyond(engine.root, found.rules)):
        return
    _touch(mark)
    _collect(engine, found.rules, emit)


def beyond(root: str, rules: tuple[Rule, ...]) -> bool:
    """Whether a limit on space can be exceeded: the cache is no larger than what all use of its disk."""
    space = os.statvfs(root)
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    free = space.f_bavail * space.f_frsize
    return any(used > (rule.max_used_space or used) or free < rule.min_free_space for rule in rules)


def _collect(engine: Engine, rules: tuple[Rule, ...], emit: Emit) -> None:
    from buildkit_py.engine.prune import PruneRequest, try_prune

    began = time.time()
    pruned = try_prune(engine, PruneRequest(rules=rules))
    if pruned is not None:
        count = len(pruned.items)
        if count or pruned.freed:
            _tell(emit, began, f"removed {count} things from the cache", pruned.freed)
        return
    from buildkit_py.engine.garbage import mark

    steps = mark(engine, rules, wait=False)
    if steps:
        _tell(emit, began, f"forgot {len(steps)} steps; their space is free when the builds at work end", 0)


def _tell(emit: Emit, began: float, text: str, freed: int) -> None:
    event = VertexEvent(_VERTEX, _NAME, started=began)
    emit(event)
    now = time.time()
    emit(StatusEvent(_VERTEX, text, freed, freed, began, now))
    emit(event._replace(completed=now))


def _touch(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.utime(fd)
    os.close(fd)
