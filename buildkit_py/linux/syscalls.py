"""System calls that Python 3.11's os module lacks, by ctypes: one wrapper a call.

Every wrapper raises SandboxError with the call's name and errno, from the one place ``fail``. Only the
standard library is imported: these modules run inside new namespaces, where nothing can be imported
any more, and on the path of every ``pybuild run``.

Arguments that are plain ints are passed by ctypes as C ints and sign-extended by the calling
convention's code; every number handed over here fits in 31 bits, except where c_ulong is used. A sixth
argument lies on the stack, where an int would leave half of a word undefined: c_ulong there, too.
"""

from __future__ import annotations

import ctypes
import os
import struct

from buildkit_py.errors import SandboxError
from buildkit_py.linux import hints
from buildkit_py.typed import NoReturn

_MACHINE = os.uname().machine
# (x86_64, aarch64). From 424 on all architectures share the numbers.
_OLD = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "unshare": (272, 97),
    "clone": (56, 220),
    "setns": (308, 268),
    "capget": (125, 90),
    "capset": (126, 91),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "sethostname": (170, 161),
    "keyctl": (250, 219),
    "setdomainname": (171, 162),
    "process_vm_readv": (310, 270),
    "name_to_handle_at": (303, 264),
}
_NEW = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
_NUMBERS = {name: pair[_MACHINE == "aarch64"] for name, pair in _OLD.items()} | _NEW

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8

CLOSE_RANGE_CLOEXEC = 4


def fail(call: str, detail: str, number: int = 0) -> NoReturn:
    """The one place where an errno becomes an exception."""
    number = number or ctypes.get_errno()
    about = f"{call} {detail}" if detail else call
    raise SandboxError(
        f"{about}: {os.strerror(number)}", call=call, errno=number, hint=hints.hint(call, number)
    )


def call(name: str, *arguments: object) -> int:
    """A system call of the tables above, unchecked: -1 with ctypes.get_errno()."""
    result: int = _syscall(_NUMBERS[name], *arguments)
    return result


def _path(path: str) -> bytes:
    return os.fsencode(path)


def unshare(flags: int) -> None:
    if _syscall(_NUMBERS["unshare"], flags) < 0:
        fail("unshare", f"{flags:#x}")


def setns(fd: int, kind: int = 0) -> None:
    if _syscall(_NUMBERS["setns"], fd, kind) < 0:
        fail("setns", f"{kind:#x}")


def clone(flags: int) -> tuple[int, int]:
    """Fork with new namespaces: (0, -1) in the child, (pid, pidfd) in the parent.

    The raw call, so that the child itself is process 1 of a new pid namespace. Only for a process
    without threads: the interpreter's after-fork work is left out. The GIL is kept throughout
    (PyDLL), so that the child has it.
    """
    import signal

    holder = ctypes.PyDLL(None, use_errno=True)
    pidfd = ctypes.c_int(-1)
    call = holder.syscall
    call.restype = ctypes.c_long
    pid: int = call(
        ctypes.c_long(_NUMBERS["clone"]),
        ctypes.c_ulong(flags | CLONE_PIDFD | signal.SIGCHLD),
        ctypes.c_void_p(0),
        ctypes.byref(pidfd),
        ctypes.c_void_p(0),
        ctypes.c_void_p(0),
    )
    if pid < 0:
        fail("clone", f"{flags:#x}")
    return pid, pidfd.value if pid else -1


def mount(source: str, target: str, kind: str, flags: int, data: bytes = b"") -> None:
    """``data`` is cut by the kernel at a page, less one byte."""
    if len(data) > 4095:
        fail("mount", target, 7)
    result = _syscall(
        _NUMBERS["mount"], _path(source), _path(target), _path(kind), ctypes.c_ulong(flags), data or None
    )
    if result < 0:
        fail("mount", f"{kind} on {target}")


def umount2(target: str, flags: int) -> None:
    if _syscall(_NUMBERS["umount2"], _path(target), flags) < 0:
        fail("umount2", target)


def pivot_root(new: str, old: str) -> None:
    if _syscall(_NUMBERS["pivot_root"], _path(new), _path(old)) < 0:
        fail("pivot_root", new)


def fsopen(kind: str) -> int:
    fd: int = _syscall(_NUMBERS["fsopen"], _path(kind), FSOPEN_CLOEXEC)
    if fd < 0:
        fail("fsopen", kind)
    return fd


def fsconfig(fd: int, command: int, key: str = "", value: bytes | None = None, *, what: str = "") -> None:
    """``what`` names the file system in an error; ``value`` is at most 255 bytes (the kernel's limit)."""
    result = _syscall(_NUMBERS["fsconfig"], fd, command, key.encode() if key else None, value, 0)
    if result < 0:
        number = ctypes.get_errno()
        said = _said_by(fd)
        fail("fsconfig", " ".join(filter(None, (what, key, said and f"({said})"))), number)


def _said_by(fd: int) -> str:
    """The kernel's own words about a failed fsconfig (it puts them into the context's message log)."""
    words = []
    try:
        while True:
            words.append(os.read(fd, 1024).decode("utf-8", "replace").strip())
    except OSError:
        return "; ".join(words)


def fsmount(fd: int, attributes: int) -> int:
    result: int = _syscall(_NUMBERS["fsmount"], fd, FSMOUNT_CLOEXEC, attributes)
    if result < 0:
        fail("fsmount", "")
    return result


def open_tree(directory: int, path: str, flags: int) -> int:
    fd: int = _syscall(_NUMBERS["open_tree"], directory, _path(path), flags | OPEN_TREE_CLOEXEC)
    if fd < 0:
        fail("open_tree", path)
    return fd


def move_mount(from_fd: int, to_directory: int, to_path: str, what: str = "") -> None:
    """Attach a detached mount at a path below a directory ("" : at the opened file itself)."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if to_path else MOVE_MOUNT_T_EMPTY_PATH)
    if _syscall(_NUMBERS["move_mount"], from_fd, b"", to_directory, _path(to_path), flags) < 0:
        fail("move_mount", what or to_path)


def mount_setattr(fd: int, path: str, set_: int, clear: int = 0, *, recursive: bool = False) -> None:
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    attributes = struct.pack("QQQQ", set_, clear, 0, 0)
    if _syscall(_NUMBERS["mount_setattr"], fd, _path(path), flags, attributes, 32) < 0:
        fail("mount_setattr", path)


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    fd: int = _syscall(_NUMBERS["openat2"], directory, _path(path), how, 24)
    if fd < 0:
        fail("openat2", path)
    return fd


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    result: int = _syscall(_NUMBERS["prctl"], option, ctypes.c_ulong(value), ctypes.c_ulong(third), 0, 0)
    if result < 0:
        fail("prctl", f"{option} {value}")
    return result


_CAP_VERSION_3 = 0x20080522


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Sets as bit masks over capability numbers (capabilities(7))."""
    low = 0xFFFFFFFF
    header = struct.pack("Ii", _CAP_VERSION_3, 0)
    data = struct.pack(
        "6I",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    if _syscall(_NUMBERS["capset"], header, data) < 0:
        fail("capset", f"{effective:#x}")


def capget() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this process."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAP_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(24)
    if _syscall(_NUMBERS["capget"], header, data) < 0:
        fail("capget", "")
    e0, p0, i0, e1, p1, i1 = struct.unpack("6I", data.raw)
    return e0 | e1 << 32, p0 | p1 << 32, i0 | i1 << 32


def seccomp_filter(program: bytes, flags: int = 0) -> int:
    """Install a BPF program (8 bytes an instruction); the listener with FLAG_NEW_LISTENER, else 0."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    result: int = _syscall(_NUMBERS["seccomp"], SECCOMP_SET_MODE_FILTER, flags, fprog)
    if result < 0:
        fail("seccomp", "")
    return result


def join_session_keyring() -> None:
    """Have a new session keyring, which nobody else has (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING)."""
    if _syscall(_NUMBERS["keyctl"], 1, None) < 0:
        fail("keyctl", "session keyring")


def sethostname(name: str) -> None:
    encoded = os.fsencode(name)
    if _syscall(_NUMBERS["sethostname"], encoded, len(encoded)) < 0:
        fail("sethostname", name)


def setdomainname(name: str) -> None:
    encoded = os.fsencode(name)
    if _syscall(_NUMBERS["setdomainname"], encoded, len(encoded)) < 0:
        fail("setdomainname", name)


def close_range(first: int, last: int = 0x7FFFFFFF, flags: int = 0) -> None:
    if _syscall(_NUMBERS["close_range"], first, last, flags) < 0:
        fail("close_range", "")


def pidfd_getfd(pidfd: int, fd: int) -> int:
    result: int = _syscall(_NUMBERS["pidfd_getfd"], pidfd, fd, 0)
    if result < 0:
        fail("pidfd_getfd", str(fd))
    return result


def process_vm_readv(pid: int, address: int, size: int) -> bytes:
    """Up to ``size`` bytes of another process; fewer where the mapping ends."""
    local = ctypes.create_string_buffer(size)
    mine = struct.pack("QQ", ctypes.addressof(local), size)
    theirs = struct.pack("QQ", address, size)
    got: int = _syscall(_NUMBERS["process_vm_readv"], pid, mine, 1, theirs, 1, ctypes.c_ulong(0))
    if got < 0:
        fail("process_vm_readv", str(pid))
    return local.raw[:got]
