"""Capabilities: Docker's default set, and how a process comes down to it (capabilities(7))."""

from __future__ import annotations

from buildkit_py.errors import SandboxError
from buildkit_py.linux import syscalls as sc

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
)
NAMES = _NAMES.split()
"""By number."""

_DEFAULT = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE "
    "SYS_CHROOT KILL AUDIT_WRITE"
)


def mask(names: list[str]) -> int:
    """The bit mask of capabilities by name (without ``CAP_``); ValueError for an unknown one."""
    return sum(1 << NAMES.index(name) for name in names)


DEFAULT = mask(_DEFAULT.split())
"""What Docker leaves to root in a container."""
NET_ADMIN = 1 << 12
SYS_PTRACE = 1 << 19
SYS_ADMIN = 1 << 21
ALL = (1 << 64) - 1
"""Those that a kernel newer than this file may have, too."""


def names(mask: int) -> list[str]:
    """The names (without ``CAP_``) of a mask's capabilities, by number."""
    return [name for number, name in enumerate(NAMES) if mask >> number & 1]


def drop_bounding(keep: int) -> None:
    """Drop every capability outside ``keep`` from the bounding set, the ones that this Python does not
    know by name as well."""
    number = 0
    while True:
        if not keep >> number & 1:
            try:
                sc.prctl(sc.PR_CAPBSET_DROP, number)
            except SandboxError:
                # EINVAL: beyond the kernel's last capability.
                if number > 32:
                    return
                raise
        number += 1
