"""A container as documents and lists describe it, by docker's field names."""

from __future__ import annotations

from buildkit_py.network import description as networks
from buildkit_py.network import record
from buildkit_py.request import MountSpec
from buildkit_py.runtime import health
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.container import Container
from buildkit_py.runtime.hostconfig import host_config
from buildkit_py.runtime.log import FILE, stamp
from buildkit_py.runtime.process import hostname_of
from buildkit_py.runtime.state import State
from buildkit_py.typed import Any

_NEVER = "0001-01-01T00:00:00Z"
_NANO = 10**9


def labels(config: Config) -> dict[str, str]:
    return dict(config.image_config.get("Labels") or {}) | dict(config.request.labels)


def exposed(config: Config) -> dict[str, dict[str, Any]]:
    """The ports of the image's EXPOSE, of ``--expose`` and of ``-p``."""
    asked = config.request.networking
    ports = [*(config.image_config.get("ExposedPorts") or ()), *asked.expose]
    ports += [f"{port.container}/{port.protocol}" for port in asked.ports]
    return {port: {} for port in sorted(set(ports))}


def document(container: Container, config: Config, state: State, root: str) -> dict[str, Any]:
    """As ``docker inspect`` has it."""
    request, image = config.request, config.image_config
    return {
        "Id": config.id,
        "Created": stamp(int(config.created * _NANO)),
        "Path": config.command[0],
        "Args": list(config.command[1:]),
        "State": state_document(state),
        "Image": config.image,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": container.part(FILE),
        "Name": "/" + config.name,
        "RestartCount": state.restarts,
        "Driver": "overlayfs",
        "Platform": config.platform.partition("/")[0],
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": host_config(config),
        "GraphDriver": {"Name": "overlayfs", "Data": {"UpperDir": container.part("fs")}},
        "Mounts": [mount_document(mount, root) for mount in config.mounts],
        "Config": {
            "Hostname": hostname_of(config),
            "Domainname": request.networking.domainname,
            "User": request.user or image.get("User") or "",
            "AttachStdin": "stdin" in request.attach,
            "AttachStdout": "stdout" in request.attach,
            "AttachStderr": "stderr" in request.attach,
            "ExposedPorts": exposed(config),
            "Tty": request.terminal,
            "OpenStdin": request.interactive,
            "StdinOnce": request.interactive and "stdin" in request.attach,
            "Env": _environment(config),
            "Cmd": _command(config),
            "Healthcheck": health.merged(config),
            "Image": request.image,
            "Volumes": image.get("Volumes"),
            "WorkingDir": request.workdir or image.get("WorkingDir") or "",
            "Entrypoint": _entrypoint(config),
            "OnBuild": image.get("OnBuild"),
            "Labels": labels(config),
            "StopSignal": request.stop_signal or image.get("StopSignal") or "SIGTERM",
            "StopTimeout": request.stop_timeout,
        },
        "NetworkSettings": networks.settings(record.load(container.path), exposed(config), config.id),
    }


def _environment(config: Config) -> list[str]:
    """What was asked for, then the image's; not what a process finds besides (HOME, HOSTNAME)."""
    asked = dict(config.request.env)
    image = [item for item in config.image_config.get("Env") or [] if item.partition("=")[0] not in asked]
    return [f"{name}={value}" for name, value in asked.items()] + image


def _entrypoint(config: Config) -> list[str] | None:
    asked = config.request.entrypoint
    return config.image_config.get("Entrypoint") if asked is None else list(asked) or None


def _command(config: Config) -> list[str] | None:
    """A given entrypoint stands without the image's CMD."""
    if config.request.command or config.request.entrypoint is not None:
        return list(config.request.command) or None
    return config.image_config.get("Cmd")


def state_document(state: State) -> dict[str, Any]:
    result: dict[str, Any] = {
        "Status": state.status,
        "Running": state.live,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": False,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": _time(state.started),
        "FinishedAt": _time(state.finished),
    }
    if state.health:
        result["Health"] = {
            "Status": state.health,
            "FailingStreak": state.failing,
            "Log": list(state.health_log),
        }
    return result


def _time(seconds: float) -> str:
    return stamp(int(seconds * _NANO)) if seconds else _NEVER


def mount_document(mount: MountSpec, root: str) -> dict[str, Any]:
    result = {
        "Type": mount.kind,
        "Source": f"{root}/volumes/{mount.source}/data" if mount.kind == "volume" else mount.source,
        "Destination": mount.target,
        **({"Driver": "local"} if mount.kind == "volume" else {}),
        "Mode": "ro" if mount.readonly else "",
        "RW": not mount.readonly,
        "Propagation": "rprivate" if mount.kind == "bind" else "",
    }
    return {"Type": mount.kind, "Name": mount.source, **result} if mount.kind == "volume" else result


def status_text(state: State, age: Any) -> str:
    """``Up 5 minutes (healthy)``, ``Exited (0) 3 hours ago``; ``age`` words a time."""
    if state.status == "created":
        return "Created"
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {age(state.finished)}"
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {age(state.finished)}"
    up = age(state.started).removesuffix(" ago")
    text = f"Up {up[:1].upper() + up[1:]}"
    if state.health:
        text += " (health: starting)" if state.health == "starting" else f" ({state.health})"
    return text + (" (Paused)" if state.status == "paused" else "")
