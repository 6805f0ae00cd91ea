"""``HostConfig`` of ``docker inspect``: what was asked of this machine for a container."""

from __future__ import annotations

from buildkit_py.request import Isolation, Limits, LogSpec, MountSpec, Networking
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.restart import parse
from buildkit_py.sandbox import layout
from buildkit_py.typed import Any

_HUNDREDTH = 10**7
"""Docker counts processors in billionths; so it rounds."""

_NOT_HERE: dict[str, Any] = {
    **dict.fromkeys(("VolumeDriver", "Cgroup", "Isolation"), ""),
    **dict.fromkeys(("Links", "DeviceCgroupRules", "DeviceRequests", "MemorySwappiness")),
    **dict.fromkeys(("CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime"), 0),
    **dict.fromkeys(("CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth"), 0),
    "ConsoleSize": [0, 0],
    "BlkioWeightDevice": [],
    "OomKillDisable": None,
}
"""What docker can be asked for and we can't, or keep otherwise (a quota as NanoCpus): its field, empty."""


def host_config(config: Config) -> dict[str, Any]:
    request = config.request
    name, times = parse(request.restart)
    return {
        "Binds": _binds(config),
        "ContainerIDFile": "",
        "LogConfig": {"Type": request.log.driver, "Config": _log_options(request.log)},
        "RestartPolicy": {"Name": name, "MaximumRetryCount": times},
        "AutoRemove": request.remove,
        "VolumesFrom": list(request.volumes_from) or None,
        "Tmpfs": {m.target: _tmpfs(m) for m in request.mounts if m.kind == "tmpfs"} or None,
        **_networking(request.networking),
        **_isolation(request.isolation),
        **_limits(request.limits),
        **_NOT_HERE,
    }


def _log_options(log: LogSpec) -> dict[str, str]:
    given = {
        "max-size": str(log.max_size or ""),
        "max-file": str(log.max_files if log.max_files != LogSpec().max_files else ""),
        "labels": ",".join(log.labels),
        "env": ",".join(log.env),
    }
    return {name: value for name, value in given.items() if value}


def _binds(config: Config) -> list[str] | None:
    return [
        f"{m.source}:{m.target}" + (":ro" if m.readonly else "")
        for m in config.mounts
        if m.kind != "tmpfs" and m.source not in config.anonymous
    ] or None


def _tmpfs(mount: MountSpec) -> str:
    return ",".join(f"{name}={value}" if value else name for name, value in mount.options)


def _networking(asked: Networking) -> dict[str, Any]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in asked.ports:
        host = "" if not port.first else str(port.first)
        if port.last > port.first:
            host += f"-{port.last}"
        key = f"{port.container}/{port.protocol}"
        bindings.setdefault(key, []).append({"HostIp": port.host_ip, "HostPort": host})
    return {
        "NetworkMode": asked.networks[0].name if asked.networks else "default",
        "PortBindings": bindings,
        "PublishAllPorts": asked.publish_all,
        "Dns": list(asked.dns),
        "DnsOptions": list(asked.dns_options),
        "DnsSearch": list(asked.dns_search),
        "ExtraHosts": [f"{name}:{address}" for name, address in asked.extra_hosts] or None,
    }


def _isolation(asked: Isolation) -> dict[str, Any]:
    security = ["no-new-privileges"] if asked.no_new_privileges else []
    security += [f"seccomp={asked.seccomp}"] if asked.seccomp else []
    security += [f"mask={path}" for path in asked.mask] + [f"unmask={path}" for path in asked.unmask]
    shown = asked.privileged or "ALL" in asked.unmask
    return {
        "CapAdd": [_capability(name) for name in asked.cap_add] or None,
        "CapDrop": [_capability(name) for name in asked.cap_drop] or None,
        "CgroupnsMode": asked.cgroupns or "private",
        "GroupAdd": list(asked.groups) or None,
        "IpcMode": asked.ipc or "private",
        "PidMode": asked.pid,
        "UTSMode": asked.uts,
        "UsernsMode": asked.userns,
        "Privileged": asked.privileged,
        "ReadonlyRootfs": asked.readonly,
        "SecurityOpt": security or None,
        "Sysctls": dict(asked.sysctls) or None,
        "Runtime": asked.runtime,
        "Init": asked.init,
        "OomScoreAdj": asked.oom_score_adj or 0,
        "Devices": [
            {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": rights}
            for host, inside, rights in asked.devices
        ],
        "Ulimits": [{"Name": n, "Hard": hard, "Soft": soft} for n, soft, hard in asked.ulimits] or None,
        "MaskedPaths": None if shown else [*layout.MASKED, *asked.mask],
        "ReadonlyPaths": None if shown else list(layout.READONLY),
    }


def _capability(name: str) -> str:
    return name if name == "ALL" else f"CAP_{name}"


def _limits(asked: Limits) -> dict[str, Any]:
    return {
        "ShmSize": asked.shm_size or 64 << 20,
        "Memory": asked.memory,
        "MemorySwap": asked.memory_swap or 2 * asked.memory,
        "MemoryReservation": asked.memory_reservation,
        "NanoCpus": round(asked.cpus * 100) * _HUNDREDTH,
        "CpuShares": asked.cpu_shares,
        "CpusetCpus": asked.cpuset_cpus,
        "CpusetMems": asked.cpuset_mems,
        "PidsLimit": asked.pids or None,
        "BlkioWeight": asked.blkio_weight,
        "CgroupParent": asked.cgroup_parent,
    }
