"""``RUN --mount``: what a step sees beside its root, and never leaves in the layer."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack

from buildkit_py.digest import SnapshotID
from buildkit_py.errors import StepError
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Exec, Mount
from buildkit_py.sandbox.spec import SandboxMount
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.solver.types import Result
from buildkit_py.source.filetree import FileTree
from buildkit_py.source.inline import InlineTree
from buildkit_py.worker.caches import cache_mounts
from buildkit_py.worker.context import BuildContext


def sandbox_mounts(
    ctx: BuildContext, node: Node, results: Sequence[Result], stack: ExitStack
) -> tuple[tuple[SandboxMount, ...], dict[str, str]]:
    """The step's mounts, and the variables that secrets set. Locks are held until ``stack`` ends."""
    op = node.op
    assert isinstance(op, Exec)
    mounts: list[SandboxMount] = []
    env: dict[str, str] = {}
    caches = cache_mounts(ctx, node, results, stack)
    for mount in op.mounts:
        if mount.kind == "bind":
            mounts.append(_bind(ctx, mount, results, stack))
        elif mount.kind == "cache":
            mounts.append(caches[mount])
        elif mount.kind == "tmpfs":
            mounts.append(SandboxMount("tmpfs", mount.target, readonly=False, size=mount.size, mode=0o1777))
        elif mount.kind == "secret":
            _secret(ctx, mount, mounts, env)
        else:
            _ssh(ctx, mount, mounts, env, stack)
    if op.devices:
        from buildkit_py.worker.devices import attach

        attach(op.devices, mounts, env)
    return tuple(mounts), env


def _bind(ctx: BuildContext, mount: Mount, results: Sequence[Result], stack: ExitStack) -> SandboxMount:
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
    if isinstance(tree, DirTree) and stat.S_ISDIR(entry.mode):
        hidden = list(tree.hidden(entry.path))
        # As with Docker, the mode of the context's own directory counts for nothing.
        if hidden or (not entry.path and entry.mode & 0o755 != 0o755):
            return _without(ctx, mount, tree, entry, hidden, stack)
    if mount.readonly:
        return SandboxMount("bind", mount.target, source=entry.host, readonly=True)
    return SandboxMount("overlay", mount.target, source="/", layers=(entry.host,), readonly=False)


def _without(
    ctx: BuildContext, mount: Mount, tree: DirTree, entry: Entry, hidden: list[str], stack: ExitStack
) -> SandboxMount:
    """The directory without what .dockerignore keeps out: under a layer of whiteouts; a copy where overlay
    can't be mounted, or the store lies in the directory (layers must not hold one another)."""
    from buildkit_py.source.temporary import TemporaryDirectory

    place = stack.enter_context(TemporaryDirectory(ctx.root)).path
    if not ctx.overlay or f"{os.path.realpath(place)}/".startswith(f"{os.path.realpath(entry.host)}/"):
        from buildkit_py.snapshot.merge import materialise

        materialise(tree, place)
        os.chmod(place, 0o755)
        return SandboxMount("bind", mount.target, source=f"{place}/{entry.path}", readonly=mount.readonly)
    made = {"": entry.stat}
    for path in hidden:
        name = path[len(entry.path) :].lstrip("/")
        parents = [name[:n] for n, letter in enumerate(name) if letter == "/"]
        for parent in parents:
            if parent not in made:
                made[parent] = os.lstat(f"{entry.host}/{parent}")
                os.mkdir(f"{place}/{parent}")
        os.mknod(f"{place}/{name}", stat.S_IFCHR, 0)
    # A directory of both layers looks as the upper one does.
    for parent, st in made.items():
        mode = stat.S_IMODE(st.st_mode) if parent or entry.path else 0o755
        os.chmod(f"{place}/{parent}", mode)
        os.utime(f"{place}/{parent}", ns=(st.st_atime_ns, st.st_mtime_ns))
    return SandboxMount(
        "overlay", mount.target, source="/", layers=(place, entry.host), readonly=mount.readonly
    )


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
    except OSError as e:
        what = f"the secret {mount.id!r} cannot be read: {secret.path}: {e.strerror}"
        raise StepError(what) from e
    if mount.env:
        env[mount.env] = data.decode("utf-8", "surrogateescape")
    if mount.target:
        mode = 0o400 if mount.mode < 0 else mount.mode
        mounts.append(SandboxMount("file", mount.target, data=data, mode=mode, uid=mount.uid, gid=mount.gid))
