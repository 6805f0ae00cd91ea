"""What this machine allows, each part with the command that mends it (``pybuild doctor``).

Wherever it is possible a thing is tried, not guessed from settings: in a child process that enters its
identity as a build would, and goes away with all it made.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable

from buildkit_py.errors import SandboxError
from buildkit_py.linux import cgroups, emulation, forwarding, hints, nftables, smallfiles, systemd, userns
from buildkit_py.linux import syscalls as sc
from buildkit_py.tuples import NamedTuple

OLDEST_KERNEL = (5, 12)
"""mount_setattr(2) on detached mounts."""
PACKAGES = hints.INSTALL


class Finding(NamedTuple):
    name: str
    ok: bool
    detail: str
    """What was found, one line."""
    mend: str = ""
    """The commands that mend it, or make more of what is well, one a line; empty where there are none."""
    required: bool = True
    """Whether builds can't work without."""


_SIOCBRADDBR = 0x89A0


def probe(root: str) -> list[Finding]:
    """All findings for a store at ``root`` (which need not exist)."""
    trial = _in_child(lambda: _trials(root))
    return [
        kernel(os.uname().release),
        *_namespace_findings(trial),
        *subordinate_findings(os.geteuid(), os.getegid()),
        store_finding(root, _mountinfo()),
        *trial[1:],
        seccomp_finding(smallfiles.read("/proc/sys/kernel/seccomp/actions_avail").strip(), userns.would_be()),
        *network_findings(),
        cgroup_finding(cgroups.find(), systemd.offered(os.getuid())),
        emulator_finding(userns.would_be(), os.uname().release),
    ]


# The kernel and its user namespaces


def kernel(release: str) -> Finding:
    numbers = tuple(int("".join(c for c in part if c.isdigit()) or "0") for part in release.split(".")[:2])
    ok = numbers >= OLDEST_KERNEL
    oldest = ".".join(map(str, OLDEST_KERNEL))
    return Finding("kernel", ok, f"Linux {release}" + ("" if ok else f": {oldest} or newer is needed"))


def _namespace_findings(trial: list[Finding]) -> list[Finding]:
    """The trial's word on namespaces, with the setting that is to blame where it failed."""
    found = trial[0]
    if found.ok or os.geteuid() == 0:
        return [found]
    blame = userns.blocking_setting()
    if blame is None:
        return [found]
    setting = blame.mend.rsplit(" ", 1)[1].replace("=", " = ")
    keep = f"echo '{setting}' | sudo tee /etc/sysctl.d/60-pybuild.conf"
    detail = f"{found.detail} ({blame.name} = {blame.value})"
    return [found._replace(detail=detail, mend=f"{blame.mend}\n{keep}")]


# Subordinate ids


def subordinate_findings(uid: int, gid: int) -> list[Finding]:
    """Of an ordinary user: the ids, and the programs that map them. Root needs neither."""
    if uid == 0:
        return []
    plan = userns.plan_maps(uid, gid)
    name = userns.login_name(uid) or str(uid)
    count = sum(r.count for r in plan.uids) - 1
    if plan.mode == "ids":
        ids = Finding("subordinate ids", True, f"{count} for {name}", required=False)
    else:
        ids = Finding(
            "subordinate ids",
            False,
            f"none for {name} in /etc/subuid and /etc/subgid: root is emulated, other owners are recorded",
            f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
            required=False,
        )
    return [ids, *(_map_program(tool) for tool in ("newuidmap", "newgidmap"))]


def _map_program(name: str) -> Finding:
    path = userns.find(name)
    if not path:
        return Finding(name, False, "not installed", f"{PACKAGES} uidmap", required=False)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return Finding(name, False, f"{path} is on a file system mounted nosuid", required=False)
    info = os.stat(path)
    if not info.st_mode & stat.S_ISUID and "security.capability" not in os.listxattr(path):
        return Finding(
            name,
            False,
            f"{path} is neither set-uid nor has capabilities",
            f"sudo chmod u+s {path}",
            required=False,
        )
    return Finding(name, True, path, required=False)


# The store's file system


def _mountinfo(path: str = "/proc/self/mountinfo") -> list[tuple[str, str]]:
    """(mount point, type) of all mounts, in order."""
    result = []
    for line in filter(None, smallfiles.read(path).split("\n")):
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before.split(" ")[4])
        result.append((point, after.split()[0]))
    return result


def store_finding(root: str, mounted: list[tuple[str, str]]) -> Finding:
    """Whether the store's file system can carry overlay's upper directories."""
    path = os.path.realpath(root)
    kind, longest = "", -1
    for point, type_ in mounted:
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:
            kind, longest = type_, len(point)
    ok = not kind.startswith(
        ("nfs", "fuse", "overlay", "ecryptfs", "cifs", "smb", "9p", "vfat", "exfat", "msdos")
    )
    mend = "" if ok else "export PYBUILD_ROOT=/a/directory/on/ext4/xfs/btrfs/or/tmpfs"
    return Finding("store", ok, f"{root} on {kind or 'an unknown file system'}", mend, required=False)


# Trials


def _in_child(work: Callable[[], list[Finding]]) -> list[Finding]:
    """Run ``work`` in a child; its findings come back by a pipe."""
    import json

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            data = json.dumps(work()).encode()
            while data:
                data = data[os.write(writing, data) :]
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as f:
        data = f.read()
    os.waitpid(pid, 0)
    if not data:
        return [Finding("namespaces", False, "the trial died without a word")]
    return [Finding(*item) for item in json.loads(data)]


def _trials(root: str) -> list[Finding]:
    """In a child of its own: enter, then try an overlay mount and a pid namespace's /proc."""
    name = "namespaces" if os.geteuid() == 0 else "user namespaces"
    try:
        identity = userns.enter()
    except SandboxError as e:
        return [Finding(name, False, e.message, e.hint)]
    modes = {"root": "real root", "ids": "root with subordinate ids", "single": "emulated root (one id)"}
    found = [Finding(name, True, f"builds run as {modes[identity.mode]}")]
    found.append(_try("overlay", lambda: _try_overlay(root)))
    found.append(_try("process namespace", _try_proc))
    found.append(_try_networks())
    return found


def _try(name: str, work: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, work())
    except SandboxError as e:
        return Finding(name, False, e.message, e.hint)
    except OSError as e:
        return Finding(name, False, str(e))


def _try_overlay(root: str) -> str:
    import shutil
    import tempfile

    from buildkit_py.linux import overlay

    home = root
    while not os.path.isdir(home):
        home = os.path.dirname(home)
    base = tempfile.mkdtemp(prefix=".pybuild-doctor-", dir=home)
    try:
        for name in ("lower", "base", "upper", "work"):
            os.mkdir(f"{base}/{name}")
        open(f"{base}/lower/file", "w").close()
        fd = overlay.mount((f"{base}/lower", f"{base}/base"), f"{base}/upper", f"{base}/work")
        try:
            os.unlink("file", dir_fd=fd)
            whiteout = os.lstat(f"{base}/upper/file")
        finally:
            os.close(fd)
        if not stat.S_ISCHR(whiteout.st_mode):
            raise SandboxError("the kernel makes no whiteouts here", call="overlay")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return f"works, {overlay.MAX_LAYERS} layers" + ("" if overlay.has_lowerdir_plus() else " by short names")


def _try_proc() -> str:
    from buildkit_py.linux import mounts

    reading, writing = os.pipe()
    pid, pidfd = sc.clone(sc.CLONE_NEWPID | sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS)
    if pid == 0:
        try:
            mounts.new("proc", (), mounts.PLAIN)
        except SandboxError as e:
            os.write(writing, str(e.errno).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.close(pidfd)
    os.waitpid(pid, 0)
    failed = os.read(reading, 16)
    os.close(reading)
    if failed:
        raise SandboxError(
            f"/proc can't be mounted in a new namespace: {os.strerror(int(failed))}",
            call="fsmount",
            errno=int(failed),
            hint="in a container, start it with its /proc unmasked: --security-opt systempaths=unconfined",
        )
    return "its own /proc can be mounted"


def _try_networks() -> Finding:
    """A bridge in a network namespace, and a rule by which containers on it reach the world. Last: this
    process leaves the host's network."""
    import fcntl
    import socket
    import subprocess

    name = "networks"
    try:
        sc.unshare(sc.CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock.fileno(), _SIOCBRADDBR, b"trial\0")
    except (SandboxError, OSError) as e:
        return Finding(name, False, f"the kernel makes no bridge: {e}", required=False)
    try:
        with nftables.Connection() as connection:
            connection.run("table ip t { chain c { type nat hook postrouting priority 100; masquerade; }; }")
        return Finding(name, True, "with a way out by nftables")
    except SandboxError as e:
        tool = userns.find("iptables-restore")
        if not tool:
            return Finding(
                name, False, f"without a way out: {e.message}", f"{PACKAGES} nftables", required=False
            )
    rule = b"*nat\n-A POSTROUTING -o x -j MASQUERADE\nCOMMIT\n"
    done = subprocess.run([tool], input=rule, capture_output=True)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        return Finding(name, False, f"without a way out: iptables: {said}", required=False)
    return Finding(name, True, "with a way out by iptables")


# seccomp, network, cgroups


def seccomp_finding(available: str, mode: str) -> Finding:
    actions = available.split()
    if "errno" not in actions:
        return Finding(
            "seccomp", False, "the kernel is built without seccomp filters (CONFIG_SECCOMP_FILTER)"
        )
    if "user_notif" not in actions:
        detail = "filters, but no user notification (Linux 5.0): root can't be emulated"
        return Finding("seccomp", False, detail, required=mode == "single")
    return Finding("seccomp", True, "filters and user notification")


def network_findings() -> list[Finding]:
    tools = [name for name in ("slirp4netns", "pasta") if userns.find(name)]
    program = Finding(
        "private network",
        bool(tools),
        ", ".join(tools) or "neither slirp4netns nor pasta: containers share the host's network",
        "" if tools else f"{PACKAGES} slirp4netns",
        required=False,
    )
    tun = "/dev/net/tun"
    ok = os.access(tun, os.R_OK | os.W_OK)
    state = "open to this user" if ok else "closed to this user" if os.path.exists(tun) else "missing"
    mend = "" if ok else f"sudo modprobe tun; sudo chmod 0666 {tun}"
    return [program, Finding("tun device", ok, f"{tun} is {state}", mend, required=False), *bridge_findings()]


def bridge_findings() -> list[Finding]:
    """Of root: whether the kernel connects its containers with this machine and the world."""
    if os.geteuid():
        return []
    obstacle = forwarding.pair_obstacle()
    if obstacle:
        reason, _, mend = obstacle.partition(": `")
        detail = f"containers have private networks by default, and no way to their address: {reason}"
        return [Finding("network bridge", False, detail, mend.rstrip("`"), required=False)]
    return [Finding("network bridge", True, "the default of containers, which this machine reaches")]


def cgroup_finding(found: cgroups.Cgroups, offered: tuple[str, ...] = ()) -> Finding:
    """``offered``: controllers of a group that the user's systemd would make."""
    if found.version == 0:
        return Finding("cgroups", False, "none mounted: no limits on memory and processors", required=False)
    detail = f"version {found.version}"
    if found.delegated:
        names = ", ".join(found.controllers) or "no controllers"
        return Finding("cgroups", True, f"{detail}, ours to use: {names}", required=False)
    mend = ""
    if found.version == 2:
        mend = (
            "sudo mkdir -p /etc/systemd/system/user@.service.d\n"
            "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
            "sudo tee /etc/systemd/system/user@.service.d/delegate.conf\n"
            "sudo systemctl daemon-reload"
        )
    if found.version == 2 and offered:
        rest = [name for name in ("cpu", "cpuset", "io", "memory", "pids") if name not in offered]
        detail += f", by this user's systemd: {', '.join(offered)}"
        detail += f"; not {', '.join(rest)}" if rest else ""
        return Finding("cgroups", True, detail, mend if rest else "", required=False)
    detail += ", not delegated to this user: no limits on memory and processors"
    return Finding("cgroups", False, detail, mend, required=False)


def emulator_finding(mode: str, release: str) -> Finding:
    found = emulation.runnable(mode, release)
    if found:
        return Finding("other platforms", True, "RUN works for " + ", ".join(found), required=False)
    other = "linux/arm64" if os.uname().machine == "x86_64" else "linux/amd64"
    detail = "RUN works for this machine's alone"
    return Finding("other platforms", False, detail, emulation.mend(other), required=False)
