"""Docker's default seccomp profile, compiled to a BPF program here.

The facts come from Docker's documentation of its default profile and the kernel's syscall tables. What
is allowed is listed; of the rest, a call that the tables know answers EPERM, and one that they don't
ENOSYS, so that a C library newer than this file falls back as on an old kernel. clone3 answers ENOSYS
too: its flags lie behind a pointer, where a filter can't look, and every user of it falls back to
clone. A capability that a container has beyond the default ones opens the calls that want it.

The program is a binary decision tree over ranges of numbers: some 8 steps for a call, against 300 for
a list. It is made once, by the starter (buildkit_py.sandbox.starter), in less than 1 ms.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping

from buildkit_py.linux import caps
from buildkit_py.linux import syscall_names as tables
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.linux.profile import Profile

ALLOW = 0x7FFF0000
NOTIFY = 0x7FC00000
ERRNO = 0x00050000
EPERM = ERRNO | 1
ENOSYS = ERRNO | 38
PRETEND = ERRNO | 0
"""The call is not made and answers 0."""

AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}

_ALLOWED = """
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir
    chmod chown chown32 chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup
    dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
    fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl
    fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
    futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid
    geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
    getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64
    io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr listxattrat llistxattr
    lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
    mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap
    mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll
    ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
    process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat
    rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
    setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
    sigaction sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend socketcall
    socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo
    tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times
    tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes
    vfork vmsplice wait4 waitid waitpid write writev
"""
ALLOWED = frozenset(_ALLOWED.split())

_BY_CAPABILITY = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount "
    "mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns "
    "syslog umount umount2 unshare",
    "SYS_BOOT": "reboot",
    "SYS_MODULE": "delete_module init_module finit_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "iopl ioperm",
    "SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}
"""Calls that a capability opens, where a container has it."""

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, Linux32, their 3 GiB forms and the question for the present one: the allowed arguments."""
NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
AF_VSOCK = 40

_EMULATED_IDS = """
    setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32
    setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32
"""
EMULATED_IDS = frozenset(_EMULATED_IDS.split())
"""With one mapped id every change of ids must fail; it is answered as if it had been made."""
OWNER_CALLS = frozenset(("chown", "chown32", "fchown", "fchown32", "lchown", "lchown32", "fchownat"))
DEVICE_CALLS = {"mknod": 1, "mknodat": 2}
"""By the argument that holds the mode."""

LD = 0x20
JEQ = 0x15
JGE = 0x35
JGT = 0x25
AND = 0x54
RET = 0x06
_JA = 0x05

Code = list[tuple[int, int, int, int]]
"""(operation, offset if true, offset if false, constant): sock_filter."""


def _argument(index: int) -> tuple[int, int, int, int]:
    """Load the low half of a call's argument (little-endian): what the kernel looks at in these calls."""
    return (LD, 0, 0, 16 + 8 * index)


def _personality() -> Code:
    count = len(PERSONALITIES)
    tests = [(JEQ, count - i, 0, value) for i, value in enumerate(PERSONALITIES)]
    return [_argument(0), *tests, (RET, 0, 0, EPERM), (RET, 0, 0, ALLOW)]


def _clone() -> Code:
    mask = (AND, 0, 0, NAMESPACE_FLAGS)
    return [_argument(0), mask, (JEQ, 0, 1, 0), (RET, 0, 0, ALLOW), (RET, 0, 0, EPERM)]


def _socket() -> Code:
    return [_argument(0), (JEQ, 0, 1, AF_VSOCK), (RET, 0, 0, EPERM), (RET, 0, 0, ALLOW)]


def _device(argument: int) -> Code:
    """Notify for a character (S_IFCHR) or block (S_IFBLK) device, allow the rest."""
    tests = [(JEQ, 1, 0, 0o020000), (JEQ, 0, 1, 0o060000)]
    kinds = (AND, 0, 0, 0o170000)
    return [_argument(argument), kinds, *tests, (RET, 0, 0, NOTIFY), (RET, 0, 0, ALLOW)]


_CONDITIONAL: Mapping[str, Callable[[], Code]] = {
    "personality": _personality,
    "clone": _clone,
    "socket": _socket,
}


def opened(capabilities: int) -> frozenset[str]:
    """The calls that a container's capabilities open."""
    names = caps.names(capabilities & ~caps.DEFAULT)
    return frozenset(call for name in names for call in _BY_CAPABILITY.get(name, "").split())


def actions(
    names: Mapping[str, int], *, emulate: bool, answer: Callable[[str], int | Code]
) -> dict[int, int | Code]:
    """What to answer, by number: a seccomp return value, or code that looks into the call.

    ``answer`` says so by name; with ``emulate`` what it would allow may be recorded or pretended.
    """
    result: dict[int, int | Code] = {}
    for name, number in names.items():
        said = answer(name)
        if emulate and said == ALLOW:
            if name in EMULATED_IDS:
                said = PRETEND
            elif name in OWNER_CALLS:
                said = NOTIFY
            elif name in DEVICE_CALLS:
                said = _device(DEVICE_CALLS[name])
        result[number] = said
    return result


def _default(capabilities: int) -> Callable[[str], int | Code]:
    more = opened(capabilities)

    def answer(name: str) -> int | Code:
        if name in more:
            return ALLOW
        if name in _CONDITIONAL:
            return _CONDITIONAL[name]()
        if name in ALLOWED:
            return ALLOW
        return ENOSYS if name == "clone3" else EPERM

    return answer


def _ranges(answers: Mapping[int, int | Code], unknown: int) -> list[tuple[int, int | Code]]:
    """(first number, answer) of each run of equal answers; ``unknown`` for numbers not in the table."""
    result: list[tuple[int, int | Code]] = []
    last: int | Code | None = None
    for number in range(max(answers) + 2):
        answer = answers.get(number, unknown)
        if answer != last:
            result.append((number, answer))
            last = answer
    return result


def _tree(ranges: list[tuple[int, int | Code]]) -> Code:
    """Code that answers for the number in the accumulator."""
    if len(ranges) == 1:
        answer = ranges[0][1]
        return [(RET, 0, 0, answer)] if isinstance(answer, int) else answer
    middle = len(ranges) // 2
    left, right = _tree(ranges[:middle]), _tree(ranges[middle:])
    return _branch(JGE, ranges[middle][0], right, left)


def _branch(test: int, constant: int, if_true: Code, if_false: Code) -> Code:
    """Conditional offsets have 8 bits: a longer way goes by an unconditional jump."""
    if len(if_false) < 256:
        return [(test, len(if_false), 0, constant), *if_false, *if_true]
    return [(test, 0, 1, constant), (_JA, 0, 0, len(if_false)), *if_false, *if_true]


def _policy(
    confine: bool, capabilities: int, profile: Profile | None
) -> tuple[int, Callable[[str], int | Code]]:
    """The answer to calls that no table knows, and the answer by name to the others."""
    if not confine:
        return ALLOW, lambda name: ALLOW
    if profile is None:
        return ENOSYS, _default(capabilities)
    from buildkit_py.linux.profile import answers_of

    return profile.default, answers_of(profile)


def assemble(
    machine: str,
    *,
    emulate: bool = False,
    confine: bool = True,
    capabilities: int = caps.DEFAULT,
    profile: Profile | None = None,
) -> Code:
    """The whole program for a machine (os.uname().machine): all its ABIs; others answer ENOSYS.

    ``confine``: Docker's profile for a container with these ``capabilities``, or ``profile`` in its
    place; without it, all calls are allowed.

    ``emulate``: root with one mapped id; changes of owner and new devices notify a supervisor
    (buildkit_py.sandbox.owners), changes of ids are answered 0.
    """
    abis = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64",)}[machine]
    code: Code = [(RET, 0, 0, ENOSYS)]
    unknown, answer = _policy(confine, capabilities, profile)
    for abi in reversed(abis):
        if profile is not None and abi not in profile.abis:
            continue
        table = {"x86_64": tables.X86_64, "i386": tables.I386, "aarch64": tables.AARCH64}[abi]
        answers = actions(tables.numbers(table), emulate=emulate, answer=answer)
        tree = _tree(_ranges(answers, unknown))
        code = _branch(JEQ, AUDIT_ARCH[abi], [(LD, 0, 0, 0), *tree], code)
    return [(LD, 0, 0, 4), *code]


def program(
    *,
    emulate: bool = False,
    confine: bool = True,
    capabilities: int = caps.DEFAULT,
    profile: Profile | None = None,
    machine: str = "",
) -> bytes:
    """The assembled filter as sock_filter bytes (native byte order)."""
    pack = struct.Struct("=HBBI").pack
    code = assemble(
        machine or os.uname().machine,
        emulate=emulate,
        confine=confine,
        capabilities=capabilities,
        profile=profile,
    )
    return b"".join([pack(*line) for line in code])
