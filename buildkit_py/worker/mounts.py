"""``RUN --mount``: what a step sees beside its root, and never leaves in the layer."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack

from buildkit_py.digest import SnapshotID
from buildkit_py.errors import StepError
from buildkit_py.llb.ops import Exec, Mount
from buildkit_py.sandbox.spec import SandboxMount
from buildkit_py.snapshot.tree import Tree
from buildkit_py.solver.types import Result
from buildkit_py.source.filetree import FileTree
from buildkit_py.source.inline import InlineTree
from buildkit_py.worker.context import BuildContext


def sandbox_mounts(
    ctx: BuildContext, op: Exec, results: Sequence[Result], stack: ExitStack
) -> tuple[tuple[SandboxMount, ...], dict[str, str]]:
    """The step's mounts, and the variables that secrets set. Locks are held until ``stack`` ends."""
    mounts: list[SandboxMount] = []
    env: dict[str, str] = {}
    _lock_caches(ctx, op, stack)
    for mount in op.mounts:
        if mount.kind == "bind":
            mounts.append(_bind(ctx, mount, results))
        elif mount.kind == "cache":
            mounts.append(_cache(ctx, mount))
        elif mount.kind == "tmpfs":
            mounts.append(SandboxMount("tmpfs", mount.target, readonly=False, size=mount.size, mode=0o1777))
        elif mount.kind == "secret":
            _secret(ctx, mount, mounts, env)
        else:
            _ssh(ctx, mount, mounts, env, stack)
    return tuple(mounts), env


def _bind(ctx: BuildContext, mount: Mount, results: Sequence[Result]) -> SandboxMount:
    result = results[mount.input] if mount.input >= 0 else None
    if isinstance(result, str) or result is None:
        layers = ctx.snapshots.layers(SnapshotID(result) if result else None)
        return SandboxMount(
            "overlay", mount.target, source=mount.source, layers=layers, readonly=mount.readonly
        )
    if isinstance(result, InlineTree):
        # A script that stands in the Dockerfile: it has no place of its own to be bound from.
        name = mount.source.strip("/")
        entry = result.lookup(name)
        mode = 0o755 if entry is None else entry.mode & 0o7777
        return SandboxMount("file", mount.target, data=result.data(name), mode=mode)
    tree: Tree = result
    entry = tree.lookup(mount.source.strip("/"))
    if entry is None:
        raise StepError(f"RUN --mount: {mount.source} is not in the build context")
    if isinstance(result, FileTree) and not entry.path:
        # A tree of one fetched file: there is no directory that could be bound.
        (entry,) = result.children("")
        return SandboxMount("bind", f"{mount.target}/{entry.path}", source=entry.host, readonly=True)
    if mount.readonly:
        return SandboxMount("bind", mount.target, source=entry.host, readonly=True)
    return SandboxMount("overlay", mount.target, source="/", layers=(entry.host,), readonly=False)


def _ssh(
    ctx: BuildContext, mount: Mount, mounts: list[SandboxMount], env: dict[str, str], stack: ExitStack
) -> None:
    """The first agent's socket is the one that ssh finds by itself."""
    from buildkit_py.worker.ssh import mount_agent

    made = mount_agent(ctx.services.agents, mount, ctx.root, stack)
    if made is not None:
        mounts.append(made)
        env.setdefault("SSH_AUTH_SOCK", made.target)


def _secret(ctx: BuildContext, mount: Mount, mounts: list[SandboxMount], env: dict[str, str]) -> None:
    secret = ctx.secrets.get(mount.id)
    if secret is None:
        if mount.required:
            raise StepError(
                f"the secret {mount.id!r} is required and was not given",
                hint=f"give it with --secret id={mount.id},src=FILE",
            )
        return
    try:
        data = secret.read()
    except (OSError, KeyError) as e:
        raise StepError(f"the secret {mount.id!r} cannot be read: {e}") from e
    if mount.env:
        env[mount.env] = data.decode("utf-8", "surrogateescape")
    if mount.target:
        mode = 0o400 if mount.mode < 0 else mount.mode
        mounts.append(SandboxMount("file", mount.target, data=data, mode=mode, uid=mount.uid, gid=mount.gid))


def _cache_dir(ctx: BuildContext, mount: Mount) -> str:
    name = hashlib.sha256(mount.id.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(ctx.root, "cache-mounts", name)


def _cache(ctx: BuildContext, mount: Mount) -> SandboxMount:
    data = os.path.join(_cache_dir(ctx, mount), "data")
    if not os.path.isdir(data):
        os.makedirs(os.path.dirname(data), mode=0o700, exist_ok=True)
        with open(
            os.path.join(os.path.dirname(data), "id"), "w", encoding="utf-8", errors="surrogateescape"
        ) as f:
            f.write(mount.id)
        try:
            os.mkdir(data)
        except FileExistsError:
            pass
        else:
            os.chown(data, mount.uid, mount.gid)
            os.chmod(data, 0o755 if mount.mode < 0 else mount.mode)
    return SandboxMount("bind", mount.target, source=data, readonly=mount.readonly)


def _lock_caches(ctx: BuildContext, op: Exec, stack: ExitStack) -> None:
    """Take the locks of ``sharing=locked`` caches in the order of their names, so that two steps that
    want the same two can't wait for each other."""
    locked = {_cache_dir(ctx, m) for m in op.mounts if m.kind == "cache" and m.sharing == "locked"}
    for path in sorted(locked):
        os.makedirs(path, mode=0o700, exist_ok=True)
        fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
