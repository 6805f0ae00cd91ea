"""From an image's config and the request to run it to the sandbox's spec (Docker's rules for both)."""

from __future__ import annotations

import os

from buildkit_py.errors import PybuildError
from buildkit_py.linux.identity import Identity
from buildkit_py.oci import defaults
from buildkit_py.request import RunRequest
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.isolation import isolated
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec
from buildkit_py.snapshot.passwd import resolve_user
from buildkit_py.snapshot.tree import Tree
from buildkit_py.typed import Any


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
    env = {"PATH": defaults.PATH, "HOSTNAME": hostname}
    if request.terminal:
        env["TERM"] = "xterm"
    env.update(item.partition("=")[::2] for item in config.get("Env") or [])
    env.update(request.env)
    env.setdefault("HOME", home)
    return tuple(f"{k}={v}" for k, v in env.items())


def hostname_of(config: Config) -> str:
    """The one asked for, or the beginning of the id; the machine's where that, or its network, is shared."""
    asked = config.request
    networks = asked.networking.networks
    if asked.isolation.uts == "host":
        return os.uname().nodename
    if networks and networks[0].name == "host":
        return asked.networking.hostname or os.uname().nodename
    return asked.networking.hostname or config.id[:12]


def container_spec(
    config: Config,
    tree: Tree,
    mounts: tuple[SandboxMount, ...],
    *,
    layers: tuple[str, ...],
    upper: str,
    work: str,
    identity: Identity,
) -> SandboxSpec:
    """All but the network. ``tree`` is the container's root, for looking names up; raises PybuildError for
    an unknown user."""
    request, image = config.request, config.image_config
    user = request.user or image.get("User") or ""
    uid, gid, groups, home = resolve_user(tree, user)
    hostname = hostname_of(config)
    spec = SandboxSpec(
        layers=layers,
        upper="" if request.isolation.readonly else upper,
        work="" if request.isolation.readonly else work,
        args=config.command,
        durable=not request.remove,
        env=environment(image, request, home, hostname),
        cwd=request.workdir or image.get("WorkingDir") or "/",
        uid=uid,
        gid=gid,
        groups=tuple(groups),
        hostname=hostname,
        mounts=mounts,
        terminal=request.terminal,
        shm_size=0 if request.isolation.ipc == "none" else request.limits.shm_size or 64 << 20,
        ulimits=request.isolation.ulimits,
        platform=config.platform,
    )
    return isolated(spec, request.isolation, tree, identity, user)
