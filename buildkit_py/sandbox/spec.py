"""What is to be run, where: the sandbox's input as plain data, without policy.

A SandboxSpec is made by buildkit_py.worker (RUN) and buildkit_py.runtime (containers); it can be
printed, compared and tested without any privilege.
"""

from __future__ import annotations

from buildkit_py.linux.caps import DEFAULT
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Literal


class SandboxMount(NamedTuple):
    kind: Literal["bind", "tmpfs", "overlay", "file"]
    """bind: ``source`` (host path; where its last part is a link, that is refused: give its target).
    tmpfs. overlay: ``layers`` (top first) as a tree, of which the subdirectory or file ``source`` is
    mounted; writes are discarded. file: ``data`` in memory."""
    target: str
    """Absolute in the sandbox; links in it are resolved inside the root."""
    source: str = ""
    layers: tuple[str, ...] = ()
    data: bytes = b""
    readonly: bool = True
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int = 0
    """tmpfs, bytes; 0: the kernel's default."""
    noexec: bool = False
    """tmpfs: nothing on it can be executed."""
    inside: str = ""
    """bind: what is mounted, below ``source``; links on the way stay inside of it."""
    options: tuple[tuple[str, str], ...] = ()
    """tmpfs: further options of the file system (``nr_inodes``), and of the mount (``noatime``, without a
    value)."""
    submounts: Literal["like it", "as they are", "left out"] = "like it"
    """bind: what is mounted below ``source`` becomes read-only with it, stays writable, or is not taken."""


class SandboxSpec(NamedTuple):
    layers: tuple[str, ...]
    """Layer directories in overlay form, topmost first; may be empty (FROM scratch)."""
    upper: str
    """Directory that takes the writes (exists, empty or of an earlier run); "" for a read-only root."""
    work: str
    """Overlay work directory on the file system of ``upper``; "" with a read-only root."""
    args: tuple[str, ...]
    env: tuple[str, ...]
    """``K=V``, all of them: nothing is inherited."""
    durable: bool = False
    """fsync(2) of a file in ``upper`` waits for the disk. For files that outlive a power cut; a step that one
    ends runs again as a whole."""
    cwd: str = "/"
    """Created in the sandbox where missing (0755)."""
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    hostname: str = "buildkitsandbox"
    domainname: str = ""
    """"": as the machine has it."""
    network: Literal["host", "none", "private"] = "host"
    hosts: str = ""
    """The text of /etc/hosts, mounted without trace in ``upper``; "": left as the image has it."""
    resolv_conf: str = ""
    hostname_file: str = ""
    """The text of /etc/hostname, as the two above."""
    mounts: tuple[SandboxMount, ...] = ()
    privileged: bool = False
    """Nothing masked, /sys and /proc/sys writable, devices that are made inside work."""
    host_devices: bool = False
    """Every device of the host's /dev is there."""
    capabilities: int = DEFAULT
    """Bit mask; those of it that we have ourselves are the bounding set, and root's."""
    seccomp: Literal["default", "unconfined"] | tuple[object, ...] = "default"
    """A tuple: a profile (buildkit_py.linux.profile.to_tuples)."""
    no_new_privileges: bool = False
    mask: tuple[str, ...] = ()
    """Hidden paths, besides layout.MASKED."""
    unmask: tuple[str, ...] = ()
    """Paths of layout.MASKED and layout.READONLY that are left open; ``ALL`` for every one."""
    host: tuple[str, ...] = ()
    """The namespaces that stay the host's: of pid, ipc, uts and cgroup. pid wants a launcher that was
    started for it."""
    shared: tuple[tuple[str, str], ...] = ()
    """(pid, ipc or uts; path of a namespace in the host's /proc) of those that are another sandbox's. pid
    wants such a launcher, too."""
    sysctls: tuple[tuple[str, str], ...] = ()
    init: bool = False
    """Process 1 is linux.init's program, the command is its child."""
    oom_score_adj: int | None = None
    runtime: str = ""
    """The path of the OCI runtime that sets it up (buildkit_py.sandbox.foreign); "": we do."""
    bundle: str = ""
    """With a runtime: the bundle's directory; it exists and is empty."""
    cgroups: tuple[str, ...] = ()
    """Directories of control groups that it enters, as the launcher's process sees them."""
    processes: int = 0
    """How many it may have, threads too, by RLIMIT_NPROC in a user namespace of its own; 0: any number."""
    keep_id: tuple[int, int] | None = None
    """(uid, gid) that our own ids 0 are inside, by one more user namespace that exchanges the two."""
    tool: Literal["", "pack", "unpack"] = ""
    """Not a command of the image but buildkit_py.sandbox.tool does something, with ``args``."""
    terminal: bool = False
    """stdin, stdout and stderr are one pty slave, made the controlling terminal."""
    shm_size: int = 64 << 20
    """Of /dev/shm, bytes; 0: not mounted."""
    ulimits: tuple[tuple[str, int, int], ...] = ()
    """(name as in setrlimit(2) without RLIMIT_, lower case; soft; hard)"""
    new_session: bool = True
    tree: str = ""
    """A plain writable directory as the root, where overlay can't be mounted: ``layers``, ``upper`` and
    ``work`` are then left out of account."""
    platform: str = ""
    """``os/arch[/variant]`` of the programs in it; "": this machine's."""
