"""From an image's config and the request to run it to the sandbox's spec (Docker's rules for both)."""

from __future__ import annotations

from typing import Any

from buildkit_py.errors import PybuildError
from buildkit_py.request import RunRequest
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec
from buildkit_py.snapshot.passwd import resolve_user
from buildkit_py.snapshot.tree import Tree

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def arguments(config: dict[str, Any], request: RunRequest) -> tuple[str, ...]:
    """ENTRYPOINT and CMD together. ``--entrypoint`` clears the image's CMD; a given command replaces it."""
    entrypoint = list(config.get("Entrypoint") or [])
    command = list(config.get("Cmd") or [])
    if request.entrypoint is not None:
        entrypoint = list(request.entrypoint)
        command = []
    if request.command:
        command = list(request.command)
    if not entrypoint and not command:
        raise PybuildError(
            f"{request.image} has neither CMD nor ENTRYPOINT", hint="name a command after the image"
        )
    return tuple(entrypoint + command)


def environment(config: dict[str, Any], request: RunRequest, home: str, hostname: str) -> tuple[str, ...]:
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if request.terminal:
        env["TERM"] = "xterm"
    env.update(item.partition("=")[::2] for item in config.get("Env") or [])
    env.update(request.env)
    env.setdefault("HOME", home)
    return tuple(f"{k}={v}" for k, v in env.items())


def container_spec(
    config: dict[str, Any],
    request: RunRequest,
    tree: Tree,
    mounts: tuple[SandboxMount, ...],
    *,
    container_id: str,
    layers: tuple[str, ...],
    upper: str,
    work: str,
) -> SandboxSpec:
    """All but the network. ``tree`` is the image's root, for looking names up; raises PybuildError for an
    unknown user."""
    uid, gid, groups, home = resolve_user(tree, request.user or config.get("User") or "")
    hostname = request.networking.hostname or container_id[:12]
    return SandboxSpec(
        layers=layers,
        upper="" if request.isolation.readonly else upper,
        work="" if request.isolation.readonly else work,
        args=arguments(config, request),
        env=environment(config, request, home, hostname),
        cwd=request.workdir or config.get("WorkingDir") or "/",
        uid=uid,
        gid=gid,
        groups=tuple(groups),
        hostname=hostname,
        mounts=mounts,
        terminal=request.terminal,
        shm_size=request.limits.shm_size or 64 << 20,
        ulimits=request.isolation.ulimits,
    )
