"""``RUN --mount=type=cache``: directories that outlive the build, in ``cache-mounts/<hash>/`` of the store.

data     what is mounted
data.*   being filled from ``from=``, renamed to data when whole
id       the mount's id, for people
start    of one with ``from=``: the key of what it began as
shared   what of it was last shared (buildkit_py.engine.sharedmounts)
used     empty; its time is that of the last use
lock     flock(2), held alone by a step that has the cache as locked or private
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from buildkit_py.digest import Digest, of_record
from buildkit_py.errors import StepError
from buildkit_py.linux.identity import Identity
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Copy, Exec, File, Mount
from buildkit_py.sandbox.spec import SandboxMount
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.tree import Tree
from buildkit_py.solver.types import Result
from buildkit_py.worker.context import BuildContext
from buildkit_py.worker.owner import Ownership

_MOST = 100
"""Private copies of one cache at a time."""


def cache_mounts(
    ctx: BuildContext, node: Node, results: Sequence[Result], stack: ExitStack
) -> dict[Mount, SandboxMount]:
    """A step's caches; those that it has for itself stay locked until ``stack`` ends. Raises StepError."""
    caches = [m for m in node.op.mounts if m.kind == "cache"] if isinstance(node.op, Exec) else []
    # In the order of their names, so that two steps that want the same two can't wait for each other.
    for path in sorted({_path(ctx, m, results) for m in caches if m.sharing == "locked"}):
        stack.callback(os.close, lock(path, fcntl.LOCK_EX))
    return {mount: _cache(ctx, node, mount, results, stack) for mount in caches}


def _path(ctx: BuildContext, mount: Mount, results: Sequence[Result]) -> str:
    return place(ctx.root, mount, results[mount.input] if mount.input >= 0 else None)


def place(root: str, mount: Mount, start: Result) -> str:
    """The directory of a cache. One that starts as something else is another cache."""
    name = mount.id
    if mount.input >= 0:
        name += "\0" + (start if isinstance(start, str) else "")
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(root, "cache-mounts", digest)


def shared_name(node: Node, mount: Mount, keys: Mapping[Digest, Digest]) -> Digest | None:
    """What a cache is called where several machines share it; None where a key isn't known."""
    start = keys.get(node.inputs[mount.input]) if mount.input >= 0 else ""
    return None if start is None else plain_name(mount.id, start)


def plain_name(id: str, start: str = "") -> Digest:
    """As shared_name(); ``start``: the key of what the cache begins as."""
    return of_record(["cache mount", id, start])


def lock(path: str, how: int) -> int:
    """A descriptor that holds a cache's lock. Raises BlockingIOError with LOCK_NB."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _private(path: str, stack: ExitStack) -> str:
    """The first copy of a cache that nobody has."""
    for number in range(_MOST):
        free = f"{path}-{number}" if number else path
        try:
            stack.callback(os.close, lock(free, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            continue
        return free
    raise StepError(f"more than {_MOST} steps at a time want a private copy of one cache")


def _cache(
    ctx: BuildContext, node: Node, mount: Mount, results: Sequence[Result], stack: ExitStack
) -> SandboxMount:
    path = _path(ctx, mount, results)
    if mount.sharing == "private":
        path = _private(path, stack)
    data = os.path.join(path, "data")
    if not os.path.isdir(data):
        _make(ctx, node, mount, results, path)
    with open(os.path.join(path, "used"), "w"):
        os.utime(os.path.join(path, "used"))
    inside = "" if mount.source == "/" else mount.source
    return SandboxMount("bind", mount.target, source=data, readonly=mount.readonly, inside=inside)


def _make(ctx: BuildContext, node: Node, mount: Mount, results: Sequence[Result], path: str) -> None:
    """A cache begins as what a shared cache has of it, else as what the Dockerfile says."""

    def fill(folder: str) -> None:
        name = shared_name(node, mount, ctx.keys) if ctx.shared is not None else None
        filled = ctx.shared.fill(name, path, folder) if ctx.shared is not None and name is not None else False
        if mount.input >= 0 and not filled:
            _fill(ctx, ctx.tree_of(results[mount.input]), folder)

    mode = 0o755 if mount.mode < 0 else mount.mode
    start = ctx.keys.get(node.inputs[mount.input]) if mount.input >= 0 else None
    make(ctx.identity, path, mount.id, (mode, mount.uid, mount.gid), fill, start)


def make(
    identity: Identity,
    path: str,
    name: str,
    attributes: tuple[int, int, int],
    fill: Callable[[str], object],
    start: Digest | None = None,
) -> None:
    """Make the cache with the id ``name`` in ``path``; the first of several processes wins.

    ``attributes``: mode, uid and gid of its directory, which ``fill`` fills. ``start``: the key of what it
    begins as. Raises StepError.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    for part, text in (("id", name), ("start", start)):
        if text is not None:
            with open(os.path.join(path, part), "w", encoding="utf-8", errors="surrogateescape") as f:
                f.write(text)
    data = os.path.join(path, "data")
    staged = f"{data}.{os.getpid()}-{os.urandom(4).hex()}"
    os.mkdir(staged)
    mode, uid, gid = attributes
    try:
        fill(staged)
        Ownership(_Plain(staged), identity).apply(staged, "", stat.S_IFDIR | mode, uid, gid, 0o777)
        os.rename(staged, data)
    except FileExistsError:
        shutil.rmtree(staged, ignore_errors=True)
    except OSError as e:
        shutil.rmtree(staged, ignore_errors=True)
        if not os.path.isdir(data):
            raise StepError(f"the cache {name} cannot be made: {e.strerror}") from e
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


class _Plain:
    """A directory to copy into; what is recorded of owners, and not beside the files, is lost."""

    def __init__(self, fs: str) -> None:
        self.fs = fs
        self.owners = Owners()


def _fill(ctx: BuildContext, tree: Tree, folder: str) -> None:
    from buildkit_py.worker.file import run_file_op

    # A change of mode that changes nothing keeps files from being links to those of the source's layer:
    # what is in a cache is written in place.
    action = Copy(0, ("/",), "/", keep_owner=True, chmod="u+")
    run_file_op(File((action,), base=False), None, [tree], {}, _Plain(folder), ctx.identity)
