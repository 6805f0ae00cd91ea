"""The root file system's furniture, as Docker lays it out: data, and what follows from a spec."""

from __future__ import annotations

import posixpath

from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec

MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def masked(spec: SandboxSpec) -> tuple[str, ...]:
    """The paths that are hidden."""
    return (*_remaining(MASKED, spec), *spec.mask)


def readonly(spec: SandboxSpec) -> tuple[str, ...]:
    return _remaining(READONLY, spec)


def _remaining(paths: tuple[str, ...], spec: SandboxSpec) -> tuple[str, ...]:
    if spec.privileged or "ALL" in spec.unmask:
        return ()
    return tuple(path for path in paths if path not in spec.unmask) if spec.unmask else paths


DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
)
APT_CONFIG = ".apt.conf"
APT_TEXT = b'APT::Sandbox::User "root";\n'
"""Where one id is mapped, apt's own descent to the user _apt would be answered as done, and apt checks
whether it was. The file lies in the sandbox's /dev, where it leaves no trace, and is named by the
environment variable APT_CONFIG."""
DEV_FOLDERS = ("pts", "shm", "mqueue")
OWN_DEVICES = frozenset((*DEVICES, "ptmx", "console"))
"""Names in /dev that the host's devices don't take."""

HOSTS = "/etc/hosts"
RESOLV_CONF = "/etc/resolv.conf"
HOSTNAME = "/etc/hostname"
BASE_PLACES = (
    ("/dev", True),
    ("/etc", True),
    (HOSTS, False),
    (RESOLV_CONF, False),
    ("/proc", True),
    ("/sys", True),
)
"""What places() comes to for a RUN without mounts."""


def normal(path: str) -> str:
    """An absolute path without ``.``, ``..``, or doubled slashes."""
    clean = posixpath.normpath("/" + path)
    return "/" + clean.lstrip("/")


def mounts(spec: SandboxSpec) -> tuple[SandboxMount, ...]:
    """All mounts over the furniture, outer before inner, as given where equally deep."""
    made = [m._replace(target=normal(m.target)) for m in spec.mounts]
    whole = not spec.upper and not spec.tree
    texts = ((HOSTS, spec.hosts), (RESOLV_CONF, spec.resolv_conf), (HOSTNAME, spec.hostname_file))
    for target, text in texts:
        if text and target not in [m.target for m in made]:
            data = text.encode("utf-8", "surrogateescape")
            made.append(SandboxMount("file", target, data=data, mode=0o644, readonly=whole))
    return tuple(sorted(made, key=lambda m: m.target.count("/")))


def places(mounts: tuple[SandboxMount, ...], folders: frozenset[str]) -> tuple[tuple[str, bool], ...]:
    """The mount points that a stub layer gives the image: (path, whether a directory), parents first.

    ``folders``: targets of bind and overlay mounts whose source is a directory.
    """
    wanted = {"/proc": True, "/sys": True, "/dev": True}
    for mount in mounts:
        if mount.target.startswith(("/proc/", "/sys/", "/dev/")):
            continue
        parent = posixpath.dirname(mount.target)
        while parent != "/":
            wanted[parent] = True
            parent = posixpath.dirname(parent)
        wanted.setdefault(mount.target, mount.kind == "tmpfs" or mount.target in folders)
    wanted.pop("/", None)
    return tuple(sorted(wanted.items()))
