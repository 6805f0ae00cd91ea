"""A sandbox's spec as the config.json of an OCI bundle (opencontainers/runtime-spec 1.0.2): data from data.

The runtime finds the root file system mounted already, and is already in the network that the container is to
have; all else it does itself.
"""

from __future__ import annotations

import os
import stat

from buildkit_py.linux import caps, profile, seccomp
from buildkit_py.linux import syscall_names as tables
from buildkit_py.sandbox import layout, process
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec
from buildkit_py.typed import Any

VERSION = "1.0.2"
INIT = "/dev/init"
"""Where the program of ``--init`` is, in /dev, which belongs to nobody's image."""
Document = dict[str, Any]

_SAFE = ["nosuid", "noexec", "nodev"]
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "aarch64": ["SCMP_ARCH_AARCH64"],
}
_NAMESPACES = {"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}


def document(spec: SandboxSpec, *, mode: str, permitted: int, files: dict[str, str], cgroup: str) -> Document:
    """``mode``: as of Identity. ``permitted``: the capabilities that we have ourselves. ``files``: the path
    of each mount of kind file, by target, and of INIT. ``cgroup``: the control group for the container, from
    the root of its hierarchy; "" for none."""
    linux: Document = {
        "namespaces": [{"type": "mount"}]
        + [{"type": name} for kind, name in _NAMESPACES.items() if kind not in spec.host],
        "maskedPaths": list(layout.masked(spec)),
        "readonlyPaths": list(layout.readonly(spec)),
    }
    maps = _user_maps(spec, mode)
    if maps:
        linux["namespaces"].append({"type": "user"})
        linux.update(maps)
    if cgroup:
        linux["cgroupsPath"] = cgroup
        linux["resources"] = {"devices": _device_rules(spec)}
    sysctls = {name: value for name, value in spec.sysctls if not name.startswith("net.")}
    if sysctls:
        linux["sysctl"] = sysctls
    filter_ = seccomp_document(spec)
    if filter_:
        linux["seccomp"] = filter_
    result: Document = {
        "ociVersion": VERSION,
        "process": _process(spec, permitted),
        "root": {"path": "rootfs", "readonly": not spec.upper and not spec.tree},
        "mounts": [*_furniture(spec, mode), *(_mount(m, files) for m in layout.mounts(spec))],
        "linux": linux,
    }
    if "uts" not in spec.host:
        result["hostname"] = spec.hostname
    if INIT in files:
        result["mounts"].append(_bind(files[INIT], INIT, ["bind", "nosuid", "nodev", "ro"]))
    return result


def _user_maps(spec: SandboxSpec, mode: str) -> Document:
    """As buildkit_py.sandbox.process has them: --userns=keep-id, and another user where one id is mapped."""
    if mode == "single" and (spec.uid or spec.gid):
        return {"uidMappings": [_map(spec.uid, 0, 1)], "gidMappings": [_map(spec.gid, 0, 1)]}
    if spec.keep_id is None:
        return {}
    own = zip(("uid", "gid"), spec.keep_id, strict=True)
    return {
        f"{kind}Mappings": [_map(*piece) for piece in process.id_pieces(process.extents(kind), number)]
        for kind, number in own
    }


def _map(inside: int, outside: int, count: int) -> Document:
    return {"containerID": inside, "hostID": outside, "size": count}


def _process(spec: SandboxSpec, permitted: int) -> Document:
    bounding = [f"CAP_{name}" for name in caps.names(spec.capabilities & permitted)]
    own = [] if spec.uid else bounding
    result: Document = {
        "terminal": spec.terminal,
        "user": {"uid": spec.uid, "gid": spec.gid, "umask": 0o022, "additionalGids": list(spec.groups)},
        "args": list(spec.args),
        "env": list(spec.env),
        "cwd": layout.normal(spec.cwd),
        "capabilities": {"bounding": bounding, "effective": own, "permitted": own},
        "rlimits": [
            {"type": f"RLIMIT_{name.upper()}", "soft": _limit(soft), "hard": _limit(hard)}
            for name, soft, hard in spec.ulimits
        ],
        "noNewPrivileges": spec.no_new_privileges,
    }
    if spec.oom_score_adj is not None:
        result["oomScoreAdj"] = spec.oom_score_adj
    return result


def _limit(value: int) -> int:
    return (1 << 64) - 1 if value < 0 else value


# Mounts


def _furniture(spec: SandboxSpec, mode: str) -> list[Document]:
    """/proc, /dev and /sys."""
    real = mode == "root"
    readonly = [] if spec.privileged else ["ro"]
    if "pid" in spec.host and not real:
        proc = _bind("/proc", "/proc", ["rbind", *_SAFE])
    else:
        proc = {"destination": "/proc", "type": "proc", "source": "proc", "options": _SAFE}
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    pts += [] if mode == "single" else ["gid=5"]
    found = [
        proc,
        _new("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _new("/dev/pts", "devpts", pts),
    ]
    if "ipc" in spec.host:
        names = [name for name in ("shm", "mqueue") if os.path.ismount(f"/dev/{name}")]
        found += [_bind(f"/dev/{name}", f"/dev/{name}", ["rbind", *_SAFE, "rw"]) for name in names]
    else:
        if spec.shm_size:
            found.append(_new("/dev/shm", "tmpfs", [*_SAFE, "mode=1777", f"size={spec.shm_size}"]))
        found.append(_new("/dev/mqueue", "mqueue", _SAFE))
    # Only who owns the network's namespace may mount it.
    if real or (spec.network != "host" and not _user_maps(spec, mode)):
        found.append(_new("/sys", "sysfs", [*_SAFE, *readonly]))
    else:
        found.append(_bind("/sys", "/sys", ["rbind", *_SAFE, "ro"]))
    return found


def _new(target: str, kind: str, options: list[str]) -> Document:
    return {"destination": target, "type": kind, "source": kind, "options": options}


def _bind(source: str, target: str, options: list[str]) -> Document:
    return {"destination": target, "type": "bind", "source": source, "options": options}


def _mount(mount: SandboxMount, files: dict[str, str]) -> Document:
    write = "ro" if mount.readonly else "rw"
    if mount.kind == "tmpfs":
        options = ["nosuid", "nodev", write, f"mode={mount.mode:o}", f"uid={mount.uid}", f"gid={mount.gid}"]
        options += ["noexec"] if mount.noexec else []
        options += [f"size={mount.size}"] if mount.size else []
        options += [f"{name}={value}" if value else name for name, value in mount.options]
        return _new(mount.target, "tmpfs", options)
    if mount.kind == "file":
        return _bind(files[mount.target], mount.target, ["bind", "nosuid", "nodev", "noexec", write])
    source = os.path.join(mount.source, mount.inside.lstrip("/")) if mount.inside else mount.source
    safe = [] if device(source) else ["nodev"]
    bind = "bind" if mount.submounts == "left out" else "rbind"
    return _bind(source, mount.target, [bind, "rprivate", *safe, write])


def device(path: str) -> tuple[str, int, int] | None:
    """(c or b, major, minor) of a device."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        kind = "c" if stat.S_ISCHR(info.st_mode) else "b"
        return kind, os.major(info.st_rdev), os.minor(info.st_rdev)
    return None


def _device_rules(spec: SandboxSpec) -> list[Document]:
    """The runtime adds those that every container has."""
    if spec.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[Document] = [{"allow": False, "access": "rwm"}]
    for mount in spec.mounts:
        found = device(mount.source) if mount.kind == "bind" else None
        if found is not None:
            kind, major, minor = found
            rules.append({"allow": True, "type": kind, "major": major, "minor": minor, "access": "rwm"})
    return rules


# seccomp


def seccomp_document(spec: SandboxSpec) -> Document:
    """``linux.seccomp``; empty for none."""
    if spec.seccomp == "unconfined":
        return {}
    machine = os.uname().machine
    if spec.seccomp != "default":
        return _given(profile.from_tuples(spec.seccomp), machine)
    opened = seccomp.opened(spec.capabilities)
    looked_into = {"personality", "clone", "socket"} - opened
    table = {"x86_64": tables.X86_64, "aarch64": tables.AARCH64}[machine]
    allowed = sorted((seccomp.ALLOWED | opened) - looked_into)
    refused = sorted(set(tables.numbers(table)) - set(allowed) - looked_into - {"clone3"})
    rules: list[Document] = [
        {"names": allowed, "action": "SCMP_ACT_ALLOW"},
        {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    ]
    for value in seccomp.PERSONALITIES:
        rules.append(_looking("personality", "SCMP_CMP_EQ", value))
    if "clone" in looked_into:
        rules.append(_looking("clone", "SCMP_CMP_MASKED_EQ", seccomp.NAMESPACE_FLAGS))
    rules.append(_looking("socket", "SCMP_CMP_NE", seccomp.AF_VSOCK))
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": _ARCHITECTURES[machine],
        "syscalls": rules,
    }


def _looking(name: str, comparison: str, value: int) -> Document:
    argument = {"index": 0, "value": value, "valueTwo": 0, "op": comparison}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}


def _given(given: profile.Profile, machine: str) -> Document:
    action, number = profile.action_name(given.default)
    result: Document = {"defaultAction": action, "architectures": _ARCHITECTURES[machine], "syscalls": []}
    if number is not None:
        result["defaultErrnoRet"] = number
    for rule in given.rules:
        action, number = profile.action_name(rule.action)
        item: Document = {"names": list(rule.names), "action": action}
        if number is not None:
            item["errnoRet"] = number
        if rule.conditions:
            item["args"] = [
                {"index": c.argument, "value": c.value, "valueTwo": c.second, "op": f"SCMP_CMP_{c.operation}"}
                for c in rule.conditions
            ]
        result["syscalls"].append(item)
    return result
