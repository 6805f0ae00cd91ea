"""A shell in the state of a build's step: of one that just failed, or of one of the past."""

from __future__ import annotations

import os
from collections.abc import Callable

from buildkit_py.cache.inputs import HIDDEN
from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.network.resolv import hosts_text, resolv_text, with_gateway
from buildkit_py.oci import defaults
from buildkit_py.runtime import console
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.snapshot.passwd import resolve_user
from buildkit_py.typed import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.history.record import Step
    from buildkit_py.worker.context import Failed

_SHELL = ("/bin/sh", "-c", "[ ! -x /bin/bash ] || exec /bin/bash; exec /bin/sh")


def enter(engine: Engine, failed: Failed) -> None:
    """Run a shell where a RUN failed, with its files, mounts, user and variables; give its state up then."""
    try:
        console.run(engine.launcher, _as_shell(failed.spec), failed.namespace)
    finally:
        failed.held.close()


def _as_shell(spec: SandboxSpec) -> SandboxSpec:
    return spec._replace(args=_SHELL, env=(*spec.env, f"TERM={os.environ.get('TERM', 'xterm')}"))


def enter_step(engine: Engine, step: Step, *, after: bool, starting: Callable[[str], None]) -> int:
    """Run a shell in the files that a step of the past ran in, or (``after``) that it made; what it writes
    is discarded. ``starting`` is told what of the step's surroundings is missing, "" for nothing.

    Raises PybuildError for a step whose files are gone.
    """
    engine.begin()
    engine.share()
    known = engine.inputs.get(Digest(step.key)) if step.key else None
    record = known.record if known is not None else {}
    snapshot = _after(engine, step) if after else _before(engine, step, record)
    engine.enter()
    with engine.snapshots.prepare(snapshot) as staged:
        spec = _spec(engine, record, snapshot)._replace(
            layers=engine.snapshots.layers(snapshot), upper=staged.fs, work=staged.work
        )
        if not engine.overlay:
            from buildkit_py.snapshot.merge import materialise

            root = os.path.join(staged.base, "tree")
            os.mkdir(root, 0o755)
            materialise(engine.snapshots.tree(snapshot), root)
            spec = spec._replace(tree=root)
        starting(_missing(record))
        return console.run(engine.launcher, _as_shell(spec))


def _before(engine: Engine, step: Step, record: dict[str, Any]) -> SnapshotID | None:
    if step.op != "Exec":
        raise PybuildError(
            f"'{step.name}' is no RUN: there is no state that it ran in", hint="--after shows what it made"
        )
    if step.parents:
        found = step.parents[0]
        if found is None:
            return None
        if engine.snapshots.exists(SnapshotID(found)):
            return SnapshotID(found)
    elif record.get("parent"):
        kept = engine.index.get(Digest(record["parent"]))
        if kept is not None:
            return kept
    elif record:
        return None
    raise NotFoundError(
        f"the files that '{step.name}' ran in are gone", hint="build again; what is used is not pruned"
    )


def _after(engine: Engine, step: Step) -> SnapshotID:
    found = engine.index.get(Digest(step.key)) if step.key else None
    if found is None:
        raise NotFoundError(
            f"there is no result of '{step.name}'",
            hint="leave --after out to see what it ran in" if step.op == "Exec" else "build again",
        )
    return found


def _spec(engine: Engine, record: dict[str, Any], snapshot: SnapshotID | None) -> SandboxSpec:
    uid, gid, groups, home = resolve_user(engine.snapshots.tree(snapshot), record.get("user") or "")
    env = {"PATH": defaults.PATH, "HOME": home, **dict(_shown(record))}
    hostname = record.get("hostname") or "buildkitsandbox"
    network: Literal["none", "host"] = "none" if record.get("network") == "none" else "host"
    hosts = tuple((name, address) for name, address in record.get("hosts") or ())
    return SandboxSpec(
        layers=(),
        upper="",
        work="",
        args=(),
        env=tuple(f"{name}={value}" for name, value in env.items()),
        cwd=record.get("cwd") or "/",
        uid=uid,
        gid=gid,
        groups=tuple(groups),
        hostname=hostname,
        network=network,
        hosts=hosts_text(hostname, with_gateway(hosts, shared=network == "host")),
        resolv_conf=resolv_text(network),
        platform=record.get("platform") or "",
    )


def _variables(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (item.partition("=") for item in record.get("env") or ())]


def _shown(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The variables whose values were written down."""
    return [(name, value) for name, value in _variables(record) if not value.startswith(HIDDEN)]


def _missing(record: dict[str, Any]) -> str:
    """What of a RUN's surroundings can't be had again."""
    targets = [str(mount[1]) for mount in record.get("mounts") or ()]
    hidden = [name for name, value in _variables(record) if value.startswith(HIDDEN)]
    said = [f"its mounts are not there: {', '.join(targets)}"] if targets else []
    if hidden:
        said.append(f"the values of {', '.join(hidden)} were not written down")
    return "; ".join(said)
