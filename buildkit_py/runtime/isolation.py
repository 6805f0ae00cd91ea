"""From the options that keep a container apart, or let it nearer, to fields of its sandbox's spec."""

from __future__ import annotations

import os
import stat

from buildkit_py.errors import PybuildError, UsageError
from buildkit_py.linux import caps
from buildkit_py.linux.identity import Identity
from buildkit_py.request import Isolation
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec
from buildkit_py.snapshot.passwd import find_group
from buildkit_py.snapshot.tree import Tree
from buildkit_py.typed import Any

_DEVICE = stat.S_IFCHR, stat.S_IFBLK
_IPC_SYSCTLS = (
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"),
    *("kernel.shmmni", "kernel.shm_rmid_forced"),
)


def isolated(spec: SandboxSpec, asked: Isolation, tree: Tree, identity: Identity, user: str) -> SandboxSpec:
    """The spec with what ``asked`` says. ``user``: as asked for or of the image's config, "" for neither.

    Raises PybuildError for what can't be done.
    """
    if asked == Isolation(readonly=asked.readonly, ulimits=asked.ulimits):
        return spec
    changes: dict[str, Any] = {}
    mask = capabilities(asked)
    if asked.runtime:
        changes["runtime"] = find_runtime(asked)
    if asked.groups:
        changes["groups"] = (*spec.groups, *(find_group(tree, name) for name in asked.groups))
    if asked.devices:
        changes["mounts"] = (*spec.mounts, *(m for d in asked.devices for m in device_mounts(*d)))
    if asked.userns == "keep-id":
        changes.update(_keep_id(identity, user))
    runc = os.path.basename(changes.get("runtime", "")).startswith("runc")
    if runc and identity.mode == "single" and (uid := changes.get("uid", spec.uid)):
        raise PybuildError(
            f"--runtime: runc gives nobody the user {uid}: one id is mapped, and it wants root's",
            hint="crun does; or give yourself subordinate ids (`pybuild doctor` says how)",
        )
    if asked.seccomp not in ("", "unconfined"):
        from buildkit_py.linux import profile

        changes["seccomp"] = profile.to_tuples(profile.read(asked.seccomp, mask))
    elif asked.seccomp or asked.privileged:
        changes["seccomp"] = "unconfined"
    return spec._replace(
        privileged=asked.privileged,
        host_devices=asked.privileged,
        capabilities=mask,
        no_new_privileges=asked.no_new_privileges,
        mask=asked.mask,
        unmask=asked.unmask,
        host=host_namespaces(asked),
        shared=asked.shared,
        sysctls=asked.sysctls,
        init=asked.init,
        oom_score_adj=asked.oom_score_adj,
        **changes,
    )


def find_runtime(asked: Isolation) -> str:
    """The path of the OCI runtime. Raises PybuildError."""
    refused = {
        "--init": asked.init and os.uname().machine != "x86_64",
        **{f"--{kind}=container:{name}": True for kind, name in asked.shared},
    }
    for option, given in refused.items():
        if given:
            raise PybuildError(f"{option} is not done with --runtime", hint="leave one of the two out")
    from buildkit_py.linux.userns import find

    path = asked.runtime if "/" in asked.runtime else find(asked.runtime)
    if not path or not os.access(path, os.X_OK):
        raise PybuildError(
            f"--runtime: there is no program {asked.runtime}",
            hint="crun and runc are in packages of their names",
        )
    return os.path.abspath(path)


def capabilities(asked: Isolation) -> int:
    """The bounding set as a mask: what is dropped goes first, then what is added comes, then single drops
    win over ``--cap-add ALL``, as Docker has it."""
    result = caps.ALL if asked.privileged or "ALL" in asked.cap_add else caps.DEFAULT
    if "ALL" in asked.cap_drop and not asked.privileged:
        result = caps.ALL if "ALL" in asked.cap_add else 0
    result |= caps.mask([name for name in asked.cap_add if name != "ALL"])
    return result & ~caps.mask([name for name in asked.cap_drop if name != "ALL"])


def host_namespaces(asked: Isolation) -> tuple[str, ...]:
    """Those that stay the host's."""
    kinds = (("pid", asked.pid), ("ipc", asked.ipc), ("uts", asked.uts), ("cgroup", asked.cgroupns))
    return tuple(kind for kind, value in kinds if value == "host")


def device_mounts(host: str, inside: str, permissions: str) -> list[SandboxMount]:
    """A device, or all those of a folder, as mounts. Raises PybuildError."""
    if not {"r", "w"} <= set(permissions):
        raise PybuildError(
            f"--device: {host} can only be read and written, not '{permissions}'",
            hint="leave the permissions out",
        )
    path = os.path.realpath(host)
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        raise PybuildError(f"--device: {host}: {e.strerror}") from e
    if stat.S_ISDIR(mode):
        found = []
        for place, _, files in sorted(os.walk(path)):
            below = os.path.normpath(os.path.join(inside, os.path.relpath(place, path)))
            for name in sorted(files):
                if stat.S_IFMT(os.lstat(f"{place}/{name}").st_mode) in _DEVICE:
                    found += device_mounts(f"{place}/{name}", f"{below}/{name}", permissions)
        if not found:
            raise PybuildError(f"--device: there is no device in {host}")
        return found
    if stat.S_IFMT(mode) not in _DEVICE:
        raise PybuildError(f"--device: {host} is not a device", hint="mount a file or directory with -v")
    return [SandboxMount("bind", inside, source=path, readonly=False)]


def check_sysctls(asked: Isolation, network: str) -> None:
    """Raises UsageError for a setting that is not the container's own."""
    for name, _ in asked.sysctls:
        own = "" if name.startswith("net.") else "ipc" if _of_ipc(name) else "none"
        if own == "none":
            raise UsageError(
                f"--sysctl: {name} is the whole machine's, not a container's",
                hint="its own are net.*, fs.mqueue.*, and of kernel.* msg*, shm* and sem",
            )
        if own == "ipc" and asked.ipc == "host":
            raise UsageError(f"--sysctl: {name} would be the host's, with --ipc=host")
        if not own and network == "host":
            raise UsageError(
                f"--sysctl: {name} would be the host's, with the host's network",
                hint="--network=private or none gives the container a network of its own",
            )


def _of_ipc(name: str) -> bool:
    return name in _IPC_SYSCTLS or name.startswith("fs.mqueue.")


def own_ids(identity: Identity) -> tuple[int, int]:
    """The user and group that a container of ``--userns=keep-id`` runs as where none is asked for."""
    return (0, 0) if identity.mode == "root" else (identity.uids[0].outside, identity.gids[0].outside)


def _keep_id(identity: Identity, user: str) -> dict[str, Any]:
    """The user's own numbers inside: root has them anyway, one mapped id needs only be called so."""
    if identity.mode == "root":
        return {}
    uid, gid = own_ids(identity)
    changes: dict[str, Any] = {} if user else {"uid": uid, "gid": gid}
    if identity.mode == "ids":
        changes["keep_id"] = (uid, gid)
    return changes
