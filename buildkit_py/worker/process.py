"""The process of a RUN step: its user, environment and mounts, and its output as log events."""

from __future__ import annotations

import itertools
import os
import select
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

from buildkit_py.digest import SnapshotID
from buildkit_py.linux import caps
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Exec
from buildkit_py.network.resolv import hosts_text, resolv_text, with_gateway
from buildkit_py.oci import defaults
from buildkit_py.progress.events import Emit, LogEvent
from buildkit_py.sandbox import limits
from buildkit_py.sandbox.launcher import Running
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.snapshot.passwd import resolve_user
from buildkit_py.snapshot.staging import Staged
from buildkit_py.snapshot.tree import Tree
from buildkit_py.solver.types import Result
from buildkit_py.worker.context import BuildContext, Failed
from buildkit_py.worker.mounts import sandbox_mounts

_numbers = itertools.count()
LOG_TAIL = 20
"""Lines of a failing step that its error repeats."""


def run_step(
    ctx: BuildContext, node: Node, op: Exec, staged: Staged, results: Sequence[Result], emit: Emit
) -> tuple[int, tuple[str, ...]]:
    """Run to the end; return the exit status and the last lines of output. Raises SandboxError, StepError."""
    parent = results[0] if op.base else None
    with ExitStack() as stack:
        spec = _spec(ctx, op, node, ctx.snapshots.tree(parent), results, stack)
        namespace = -1
        if ctx.joined is not None and op.network == "default":
            spec, namespace = ctx.joined.enter(spec, op.extra_hosts, stack)
        if ctx.overlay:
            spec = spec._replace(layers=ctx.snapshots.layers(parent), upper=staged.fs, work=staged.work)
            status, tail = _run_logged(ctx, spec, namespace, staged, node.digest, emit)
        else:
            spec = spec._replace(tree=os.path.join(staged.base, "tree"))
            status, tail = _run_copied(ctx, spec, namespace, parent, staged, node.digest, emit, stack)
        if status != 0 and ctx.keep_failed and not ctx.cancelled and ctx.failed is None:
            held = ExitStack()
            held.callback(staged.keep())
            held.enter_context(stack.pop_all())
            ctx.failed = Failed(spec, namespace, held)
        return status, tail


def _run_copied(
    ctx: BuildContext,
    spec: SandboxSpec,
    namespace: int,
    parent: SnapshotID | None,
    staged: Staged,
    vertex: str,
    emit: Emit,
    stack: ExitStack,
) -> tuple[int, tuple[str, ...]]:
    """Where overlay can't be mounted: run in a copy of the tree, then keep what differs from it."""
    from buildkit_py.snapshot.merge import capture, materialise
    from buildkit_py.snapshot.removal import remove_tree

    os.mkdir(spec.tree, 0o755)
    stack.callback(remove_tree, spec.tree)
    recorded = materialise(ctx.snapshots.tree(parent), spec.tree)
    status, tail = _run_logged(ctx, spec, namespace, staged, vertex, emit)
    if status == 0:
        capture(spec.tree, recorded, staged)
    return status, tail


def _spec(
    ctx: BuildContext, op: Exec, node: Node, root: Tree, results: Sequence[Result], stack: ExitStack
) -> SandboxSpec:
    uid, gid, groups, home = resolve_user(root, op.user)
    env = dict(item.split("=", 1) for item in op.env)
    env.setdefault("PATH", defaults.PATH)
    env.setdefault("HOME", home)
    for item in node.meta.secret_env:
        name, _, value = item.partition("=")
        env.setdefault(name, value)
    mounts, secret_env = sandbox_mounts(ctx, node, results, stack)
    env.update(secret_env)
    hostname = op.hostname or "buildkitsandbox"
    network = op.network if op.network != "default" else ctx.network
    return SandboxSpec(
        layers=(),
        upper="",
        work="",
        args=op.args,
        env=tuple(f"{k}={v}" for k, v in env.items()),
        cwd=op.cwd or "/",
        uid=uid,
        gid=gid,
        groups=tuple(groups),
        hostname=hostname,
        network=network,
        hosts=hosts_text(hostname, with_gateway(op.extra_hosts, shared=network == "host")),
        resolv_conf=resolv_text(network),
        mounts=mounts,
        privileged=op.security == "insecure",
        capabilities=caps.ALL if op.security == "insecure" else caps.DEFAULT,
        seccomp="unconfined" if op.security == "insecure" else "default",
        shm_size=op.shm_size or 64 << 20,
        ulimits=op.ulimits,
        platform=op.platform,
    )


def _run_logged(
    ctx: BuildContext, spec: SandboxSpec, namespace: int, staged: Staged, vertex: str, emit: Emit
) -> tuple[int, tuple[str, ...]]:
    """Run the sandbox within the build's limits, with stdout and stderr as log events; return its exit
    status and last lines.

    Owners that it could only record go to those of the staged layer.
    """
    name = f"build-{os.getpid()}-{next(_numbers)}"
    spec, group, _ = limits.apply(spec, ctx.limits, name, ctx.identity.mode, ctx.launcher.starter)
    try:
        status, tail = _run_in(ctx, spec, namespace, staged, vertex, emit)
        if status != 0 and group.oom_kills():
            tail = (*tail, limits.out_of_memory(ctx.limits))
        return status, tail
    finally:
        group.remove()


def _run_in(
    ctx: BuildContext, spec: SandboxSpec, namespace: int, staged: Staged, vertex: str, emit: Emit
) -> tuple[int, tuple[str, ...]]:
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        running = ctx.launcher.run(spec, stdin=null, stdout=out_w, stderr=err_w, namespace=namespace)
    except BaseException:
        os.close(out_r)
        os.close(err_r)
        raise
    finally:
        for fd in (out_w, err_w, null):
            os.close(fd)
    ctx.running.add(running)
    try:
        if ctx.cancelled:
            running.kill()
        tail = _pump({out_r: 1, err_r: 2}, vertex, emit)
        status = running.wait()
        staged.owners.update(running.owners)
        staged.owners.marked |= running.marked
        return status, tail
    except BaseException:
        _kill_and_reap(running)
        raise
    finally:
        ctx.running.discard(running)


def _kill_and_reap(running: Running) -> None:
    running.kill()
    running.wait()


def _pump(streams: dict[int, int], vertex: str, emit: Emit) -> tuple[str, ...]:
    """Hand on what comes out of the pipes until both end; close them; return the last lines."""
    tail: deque[bytes] = deque(maxlen=64)
    poll = select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN)
    open_fds = set(streams)
    try:
        while open_fds:
            for fd, _ in poll.poll():
                data = os.read(fd, 65536)
                if not data:
                    poll.unregister(fd)
                    open_fds.discard(fd)
                    os.close(fd)
                    continue
                tail.append(data[-16384:])
                emit(LogEvent(vertex, streams[fd], data, time.time()))
    finally:
        for fd in open_fds:
            os.close(fd)
    return tuple(b"".join(tail).decode("utf-8", "replace").splitlines()[-LOG_TAIL:])
