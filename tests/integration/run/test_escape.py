"""From inside a container, none of these gets out: as root, with many ids, with one.

Each test tries what an attacker who is root in the container would try, by perl's ``syscall`` where a shell
has no command for it, and checks outside that nothing came of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pty
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_py.linux import syscall_names as tables
from tests.support.runner import Pybuild, Result

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp")

IMAGE = "debian:12-slim"
NUMBERS = tables.numbers(tables.X86_64)
ORDINARY = pytest.mark.parametrize("each_identity", ["ids", "single"], indirect=True)
DENIED = {1: "EPERM", 13: "EACCES", 38: "ENOSYS", 30: "EROFS", 2: "ENOENT", 3: "ESRCH", 22: "EINVAL"}


@pytest.fixture
def jail(each_identity: str, kept: Callable[[str], Pybuild]) -> Pybuild:
    return kept(each_identity)


def run(jail: Pybuild, *words: str, script: str, status: int | None = 0, interpreter: str = "sh") -> Result:
    option = "-e" if interpreter == "perl" else "-c"
    return jail("run", "--rm", "-q", *words, IMAGE, interpreter, option, script, status=status)


def calls(jail: Pybuild, *tried: str, before: str = "", words: tuple[str, ...] = ()) -> dict[str, int]:
    """The errno of system calls tried inside, ``name(arguments in perl)`` each; 0 for one that worked."""
    lines = [before]
    for number, text in enumerate(tried):
        name, _, arguments = text.removesuffix(")").partition("(")
        # perl hands over a variable's memory, never a literal's.
        arguments = re.sub(r'("[^"]*")', r"(my $s = \1)", arguments)
        text = ", ".join(filter(None, (str(NUMBERS[name]), arguments)))
        lines.append(
            f"{{ $! = 0; my $r = syscall({text}); print {number}, ' ', ($r == -1 ? $!+0 : 0), qq(\\n) }}"
        )
    done = run(jail, *words, script="\n".join(lines), interpreter="perl")
    return {
        tried[int(index)]: int(error) for index, error in (line.split() for line in done.stdout.splitlines())
    }


def all_denied(found: dict[str, int]) -> None:
    assert found
    open_ = {name: number for name, number in found.items() if number not in DENIED}
    assert not open_, open_


@pytest.fixture
def secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of the host's that all users of the host can read, and nobody in a container should."""
    place = Path("/var/tmp") / f"pybuild-secret-{secrets.token_hex(8)}"
    place.write_text("the host's\n")
    place.chmod(0o644)
    yield place
    assert place.read_text() == "the host's\n"
    place.unlink()


# Files of the host


def test_mounting(jail: Pybuild) -> None:
    found = calls(
        jail,
        'mount("/", "/mnt", "none", 4096, 0)',
        'mount("proc", "/mnt", "proc", 0, 0)',
        'mount("sysfs", "/mnt", "sysfs", 0, 0)',
        'mount("devtmpfs", "/mnt", "devtmpfs", 0, 0)',
        'mount("x", "/mnt", "cgroup", 0, "memory")',
        'mount("x", "/mnt", "tmpfs", 0, 0)',
    )
    all_denied(found)
    all_denied(
        calls(
            jail,
            'umount2("/proc/sys", 2)',
            'umount2("/proc/kcore", 2)',
            'pivot_root("/", "/mnt")',
            'open_tree(-100, "/", 1)',
            'fsopen("tmpfs", 0)',
            'fspick(-100, "/", 0)',
            'move_mount(-100, "/", -100, "/mnt", 0)',
            'mount_setattr(-100, "/", 0, 0, 0)',
            'swapon("/etc/passwd", 0)',
            'quotactl(0, 0, 0, 0)',
        )
    )  # fmt: skip


def test_leaving_a_chroot(jail: Pybuild, secret: Path) -> None:
    script = f"""
        mkdir '/x'; open(my $out, '<', '/'); chroot '/x'; chdir $out;
        for (1..50) {{ chdir '..' }}
        chroot '.'; print -e '{secret}' ? 'out' : 'in', ' ', -e '/etc/debian_version' ? 'own' : '?'
    """
    assert run(jail, script=script, interpreter="perl").stdout == "in own"


def test_a_handle_of_a_file_of_the_host(jail: Pybuild) -> None:
    handle = "my $h = pack('IiQQ', 8, 1, 2, 0);"
    all_denied(calls(jail, "open_by_handle_at(0, $h, 0)", before=handle))


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/kernel/ns_last_pid",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/cgroup.procs",
        "/proc/acpi/wakeup",
        "/proc/irq/default_smp_affinity",
    ],
)
def test_kernel_files(jail: Pybuild, path: str) -> None:
    host = Path(path)
    kept = path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe") and host.exists()
    before = host.read_bytes() if kept else b""
    done = run(jail, script=f"printf '|/bin/true' >{path} && echo written", status=None)
    assert "written" not in done.stdout
    assert (host.read_bytes() if kept else b"") == before


def test_no_kernel_file_at_all_can_be_written(jail: Pybuild) -> None:
    """Every file below /proc and /sys is tried, but for those of the container's own processes, and for the
    alarms of /proc/pressure, which any user may set."""
    script = r"""
        use Fcntl; use File::Find;
        find({no_chdir => 1, wanted => sub {
            if (-l $_) { $File::Find::prune = 1; return }
            if (m{^/proc/(\d+|self|thread-self|net|pressure)$}) { $File::Find::prune = 1; return }
            return unless -f $_ and (stat $_)[2] & 0222;
            if (sysopen(my $f, $_, O_WRONLY | O_NONBLOCK)) { print "$_\n" }
        }}, '/proc', '/sys');
    """
    done = run(jail, script=script, interpreter="perl", status=None)
    assert done.stdout == ""


def test_what_the_kernel_tells(jail: Pybuild) -> None:
    script = (
        "cd /proc; for f in kcore keys timer_list sched_debug; do head -c 10 $f; done; ls -A /sys/firmware"
    )
    assert run(jail, script=script, status=None).stdout == ""
    all_denied(calls(jail, "syslog(3, 0, 0)", "syslog(10, 0, 0)"))


def test_the_root_of_a_process(jail: Pybuild, secret: Path) -> None:
    places = (
        "/proc/1/root",
        "/proc/self/root",
        "/proc/self/cwd/..",
        "/proc/self/task/1/root",
        "/..",
        "/proc/1/cwd",
    )
    script = "; ".join(f"cat {place}{secret} 2>/dev/null" for place in places)
    assert run(jail, script=f"{script}; true").stdout == ""


@pytest.mark.parametrize("number", range(3, 16))
def test_a_working_directory_that_is_a_descriptor(jail: Pybuild, number: int, secret: Path) -> None:
    up = "../" * 12
    script = f"cat .{secret} {up}{str(secret)[1:]}; ls -A . .. | grep -cE 'mount[0-9]|-work$'"
    done = jail("run", "--rm", "-q", "-w", f"/proc/self/fd/{number}", IMAGE, "sh", "-c", script, status=None)
    assert done.stdout in ("", "0\n")


def test_links_in_a_volume(jail: Pybuild, secret: Path) -> None:
    shared = jail.out / "linked"
    shared.mkdir(exist_ok=True)
    for name, target in (
        ("up", "../../../../../../../.."),
        ("abs", "/"),
        ("file", str(secret)),
        ("proc", "/proc/1/root"),
    ):
        (shared / name).unlink(missing_ok=True)
        (shared / name).symlink_to(target)
    jail.person.own(shared)
    script = f"cd /v; cat file up{secret} abs{secret} proc{secret} 2>/dev/null; echo x >file; cat {secret}"
    done = run(jail, "-v", f"{shared}:/v", script=script)
    # The link is one of the container's own file system.
    assert done.stdout == "x\n" or "No such file" in done.stderr


def test_links_in_the_image_on_the_way_to_a_mount(jail: Pybuild, secret: Path) -> None:
    """What an image makes of a mount's place leads no mount out, and a volume takes no file of the host."""
    context = jail.context(
        {
            "Dockerfile": f"FROM {IMAGE}\n"
            f"RUN ln -s ../../../../../../../../var/tmp /escape && ln -s {secret.parent} /direct "
            "&& ln -s /proc/1/root/var/tmp /magic\n"
        }
    )
    jail("build", "-q", "-t", "linked", context)
    shared = jail.out / "mounted"
    shared.mkdir(exist_ok=True)
    jail.person.own(shared)
    names = set(os.listdir("/var/tmp"))
    for place in ("/escape/made", "/direct/made", "/magic/made"):
        jail("run", "--rm", "-q", "-v", f"{shared}:{place}", "linked", "true", status=None)
    done = jail("run", "--rm", "-q", "-v", "taken:/direct", "linked", "ls", "-A", "/direct/", status=None)
    assert secret.name not in done.stdout
    assert "made" not in set(os.listdir("/var/tmp")) - names


def test_the_lower_layers_stay_as_they_are(jail: Pybuild) -> None:
    run(jail, script="true")
    layers = [
        path for path in (jail.store / "snapshots").glob("*/*/fs") if (path / "etc/debian_version").exists()
    ]
    assert layers
    before = {path: (path / "etc/debian_version").read_bytes() for path in layers}
    times = {path: (path / "etc").stat().st_mtime_ns for path in layers}
    script = "cd /etc; echo changed >debian_version; rm -rf apt; chmod 777 .; touch new; mv issue other"
    run(jail, script=script)
    assert {path: (path / "etc/debian_version").read_bytes() for path in layers} == before
    assert {path: (path / "etc").stat().st_mtime_ns for path in layers} == times
    assert "changed" not in run(jail, script="cat /etc/debian_version; test -d /etc/apt").stdout
    # Where they lie on the host is told by /proc/mounts, but leads nowhere.
    script = r"""
        tr ',: ' '\n\n\n' </proc/mounts | sed 's/^[a-z]*=//' | grep ^/. | while read folder; do
            ls -d $folder/etc/debian_version 2>/dev/null
        done; true
    """
    assert run(jail, script=script).stdout == ""


# Devices


def test_devices_that_are_made(jail: Pybuild) -> None:
    disk = os.stat(os.path.realpath(_some_disk()))
    major, minor = os.major(disk.st_rdev), os.minor(disk.st_rdev)
    shared = jail.out / "devices"
    shared.mkdir(exist_ok=True)
    jail.person.own(shared)
    script = f"""
        for d in mem kmem port kmsg vda sda nvme0n1 loop0 fuse net/tun kvm; do
            [ -e /dev/$d ] && echo "there is $d"
        done
        read() {{ head -c 1 $1 2>/dev/null | tr '\\0' x | grep -q . && echo "read $1"; }}
        for d in /tmp /dev /dev/shm /v /t /; do
            mknod $d/disk b {major} {minor} 2>/dev/null && read $d/disk
            mknod $d/mem c 1 1 2>/dev/null && read $d/mem
            mknod $d/zero c 1 5 2>/dev/null && read $d/zero
        done
        true
    """
    assert run(jail, "-v", f"{shared}:/v", "--tmpfs", "/t", script=script).stdout == ""


def _some_disk() -> str:
    for name in os.listdir("/sys/block"):
        if os.path.exists(f"/dev/{name}"):
            return f"/dev/{name}"
    return "/dev/zero"


def test_the_memory_of_the_machine(jail: Pybuild) -> None:
    all_denied(calls(jail, "iopl(3)", "ioperm(0x70, 2, 1)", "kexec_load(0, 0, 0, 0)"))


# Processes of the host


def test_processes_outside(jail: Pybuild) -> None:
    own = os.getpid()
    numbers = run(jail, script="cd /proc; ls -d [0-9]*").stdout.split()
    assert len(numbers) <= 3
    assert str(own) not in numbers
    found = calls(
        jail,
        f"kill({own}, 0)",
        f"ptrace(16, {own}, 0, 0)",
        f"pidfd_open({own}, 0)",
        f"process_vm_readv({own}, $i, 1, $i, 1, 0)",
        f"prlimit64({own}, 7, 0, 0)",
        before="my $b = 'x' x 16; my $i = pack('QQ', unpack('Q', pack('p', $b)), 8);",
    )
    all_denied(found)
    assert run(jail, script="print getppid(), ' ', kill(9, -1)", interpreter="perl").stdout == "0 0"


def test_the_first_process_can_not_be_read(jail: Pybuild) -> None:
    """Nothing of ours, its memory, environment or program, shows in process 1."""
    script = "tr '\\0' '\\n' </proc/1/environ; readlink /proc/1/exe; cat /proc/1/maps"
    for words in ((), ("--init",)):
        text = run(jail, *words, "-e", "OWN=1", script=script).stdout
        assert "python" not in text
        assert "PYBUILD_ROOT" not in text


def test_shared_memory_of_the_host(jail: Pybuild) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    key = secrets.randbelow(1 << 30)
    number = libc.shmget(key, 4096, 0o1000 | 0o666)
    assert number >= 0
    name = Path("/dev/shm") / f"pybuild-{secrets.token_hex(8)}"
    name.write_text("host")
    try:
        found = calls(jail, f"shmget({key}, 4096, 0)", f"shmat({number}, 0, 0)")
        all_denied(found)
        assert run(jail, script="ls -A /dev/shm").stdout == ""
    finally:
        name.unlink()
        libc.shmctl(number, 0, None)


# Privileges


def test_set_uid_programs(jail: Pybuild) -> None:
    """A user of the container becomes its root by one, with no more than root has there, or not at all."""
    context = jail.context(
        {"Dockerfile": f"FROM {IMAGE}\nRUN cp /bin/dash /bin/suid && chmod 4755 /bin/suid\nUSER 1000\n"}
    )
    jail("build", "-q", "-t", "suid", context)
    script = "grep -E 'CapEff|CapBnd' /proc/self/status"

    def effective(*words: str) -> int:
        done = jail("run", "--rm", "-q", *words, "suid", "/bin/suid", "-p", "-c", script)
        bits = [int(line.split("\t")[1], 16) for line in done.stdout.splitlines()]
        assert bits[1] & ~0xA80425FB == 0
        return bits[0]

    assert effective() & ~0xA80425FB == 0
    assert effective("--security-opt=no-new-privileges") == 0


@ORDINARY
def test_set_uid_programs_of_the_host(jail: Pybuild) -> None:
    """A program of the host that is bound into an ordinary user's container makes nobody root there."""
    script = "/host/su -c id root </dev/null; /host/newuidmap 1 0 0 1; grep CapEff /proc/self/status"
    done = run(jail, "-v", "/usr/bin:/host:ro", "--user=1000", script=script, status=None)
    assert "uid=0" not in done.stdout
    assert "CapEff:\t0000000000000000" in done.stdout


@ORDINARY
def test_a_set_uid_file_in_a_volume_is_no_program_of_the_hosts_root(jail: Pybuild) -> None:
    shared = jail.out / "suid"
    shared.mkdir(exist_ok=True)
    jail.person.own(shared)
    run(jail, "-v", f"{shared}:/v", script="cp /bin/dash /v/sh && chown 0:0 /v/sh && chmod 6755 /v/sh")
    info = (shared / "sh").stat()
    assert info.st_uid != 0
    assert info.st_gid != 0


def test_modules(jail: Pybuild) -> None:
    found = calls(jail, 'init_module("x", 1, "")', 'finit_module(0, "", 0)', 'delete_module("overlay", 0)')
    all_denied(found)


def test_namespaces(jail: Pybuild) -> None:
    found = calls(
        jail,
        "unshare(0x10000000)",
        "clone(0x10000011, 0, 0, 0, 0)",
        "clone3(0, 0)",
        "setns(0, 0)",
    )
    all_denied(found)
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000):
        all_denied(calls(jail, f"unshare({flag})"))
    text = run(jail, script="unshare -U true 2>&1; unshare -m true 2>&1; true").stdout
    assert text.count("Operation not permitted") == 2, text


@pytest.mark.parametrize(
    "words", [("--userns=keep-id",), ("--pids-limit=30",), ("--user=1000",), ("--init",)]
)
def test_namespaces_of_other_kinds_of_containers(jail: Pybuild, words: tuple[str, ...]) -> None:
    """A user namespace more, for a number or a limit, gives root nothing; nor does another user."""
    own = os.getpid()
    found = calls(
        jail,
        'mount("/", "/mnt", "none", 4096, 0)',
        'mount("x", "/mnt", "tmpfs", 0, 0)',
        'mount("x", "/mnt", "overlay", 0, "lowerdir=/,upperdir=/tmp,workdir=/mnt")',
        'umount2("/proc/kcore", 2)',
        'fsopen("tmpfs", 0)',
        "unshare(0x10000000)",
        "unshare(0x20000)",
        "setns(0, 0)",
        f"kill({own}, 0)",
        f"ptrace(16, {own}, 0, 0)",
        "io_uring_setup(1, 0)",
        'add_key("user", "a", "b", 1, -3)',
        'init_module("x", 1, "")',
        words=words,
    )
    all_denied(found)
    script = (
        "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger; do "
        "(echo x >$f) 2>/dev/null && echo $f; done; head -c 1 /proc/kcore; cat /proc/1/environ"
    )
    text = run(jail, *words, "-e", "OWN=1", script=script, status=None).stdout
    assert "/proc/sys" not in text
    assert "PYBUILD" not in text


def test_ways_into_the_kernel(jail: Pybuild) -> None:
    found = calls(
        jail,
        'add_key("user", "a", "b", 1, -3)',
        'request_key("user", "a", 0, -3)',
        "keyctl(0, -3, 0)",
        "userfaultfd(0)",
        "bpf(0, 0, 0)",
        "perf_event_open(0, 0, -1, -1, 0)",
        "io_uring_setup(1, 0)",
        "fanotify_init(0, 0)",
        "kcmp(1, 1, 0, 0, 0)",
        "lookup_dcookie(0, 0, 0)",
        "acct(0)",
    )
    all_denied(found)
    found = calls(
        jail, "reboot(0xfee1dead, 672274793, 0x89ABCDEF, 0)", "settimeofday(0, 0)", "clock_settime(0, 0)"
    )
    all_denied(found)


@pytest.mark.parametrize("words", [("--security-opt=seccomp=unconfined",), ("--privileged",)])
def test_the_callers_keys(jail: Pybuild, words: tuple[str, ...]) -> None:
    """Where the filter lets a container ask for keys, the session keyring is its own."""
    libc = ctypes.CDLL(None)

    def have_a_key() -> None:
        libc.syscall(NUMBERS["keyctl"], 1, None)
        assert libc.syscall(NUMBERS["add_key"], b"user", b"pybuild-test", b"secret", 6, -3) > 0

    script = f"""
        my ($kind, $name) = ("user", "pybuild-test");
        print syscall({NUMBERS["keyctl"]}, 10, -3, $kind, $name, 0) > 0 ? 'found' : $!+0;
    """
    done = jail("run", "--rm", "-q", *words, IMAGE, "perl", "-e", script, preexec_fn=have_a_key)
    assert done.stdout == str(errno.ENOKEY)


def test_calls_by_other_numbers(jail: Pybuild) -> None:
    """The x32 numbers, and the 32-bit calls of the same processor, are behind the same filter."""
    script = "my ($a, $b) = qw(/ /mnt); print syscall(0x40000000 | 165, $a, $b, $a, 4096, 0), ' ', $!+0"
    assert run(jail, script=script, interpreter="perl").stdout == "-1 38"
    # int 0x80 with eax = 310, unshare of i386; ebx = CLONE_NEWUSER: a tiny program says how it went.
    code = bytes.fromhex("b836010000bb00000010cd80f7d889c7b83c0000000f05")
    program = (
        b"\x7fELF\2\1\1" + bytes(9)
        + b"\x02\x00\x3e\x00\x01\x00\x00\x00" + (0x400078).to_bytes(8, "little")
        + (64).to_bytes(8, "little") + bytes(12)
        + b"\x40\x00\x38\x00\x01\x00\x00\x00\x00\x00\x00\x00"
        + b"\x01\x00\x00\x00\x05\x00\x00\x00" + bytes(8) + (0x400000).to_bytes(8, "little") * 2
        + (0x78 + len(code)).to_bytes(8, "little") * 2 + (0x1000).to_bytes(8, "little") + code
    )  # fmt: skip
    shared = jail.out / "old"
    shared.mkdir(exist_ok=True)
    (shared / "try").write_bytes(program)
    (shared / "try").chmod(0o755)
    jail.person.own(shared)
    done = jail("run", "--rm", "-q", "-v", f"{shared}:/v", IMAGE, "/v/try", status=None)
    # Its exit status is the errno; a kernel without 32-bit calls ends it with a signal.
    assert done.status in (1, 38, 139), done


# The streams, and what else is handed over


@pytest.mark.parametrize("words", [(), ("--init",), ("-i",), ("-t",)])
def test_descriptors(jail: Pybuild, words: tuple[str, ...]) -> None:
    script = "for p in 1 $$; do ls /proc/$p/fd; done; ls -l /proc/$$/fd | sed 's/.*-> //'"
    text = run(jail, *words, script=script).stdout
    assert set(re.findall(r"^\d+\r?$", text, re.M)) <= {"0", "1", "2", "0\r", "1\r", "2\r"}
    assert "socket:" not in text
    assert "/var/tmp" not in text


def test_typing_into_the_hosts_terminal(jail: Pybuild) -> None:
    """Without -t the host's terminal is only a stream: it is nobody's controlling terminal inside."""
    main, other = pty.openpty()
    script = """
        for $fd (0, 1, 2) {
            open(my $f, '+<&=', $fd);
            for my $call (0x5412, 0x541C) { ioctl($f, $call, my $c = 'x') and print STDERR 'typed' }
        }
        print STDERR 'end'
    """

    def control() -> None:
        os.setsid()
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    words = ("run", "--rm", "-q", "-i", IMAGE, "perl", "-e", script)
    with jail.start(
        *words, stdin=other, stdout=other, stderr=subprocess.PIPE, preexec_fn=control, start_new_session=False
    ) as process:
        _, err = process.communicate(timeout=60)
    os.close(other)
    os.close(main)
    assert err.strip() == "end"


def test_a_container_of_its_own_terminal(jail: Pybuild) -> None:
    """What is typed into the container's terminal stays in it."""
    main, other = pty.openpty()
    script = "ioctl(STDIN, 0x5412, my $c = 'x'); print 'end'"
    with jail.start(
        "run", "--rm", "-q", "-it", IMAGE, "perl", "-e", script, stdin=other, stdout=other, stderr=other
    ) as process:
        process.wait(timeout=60)
    # Nothing waits to be read by the shell that comes next.
    os.set_blocking(other, False)
    import fcntl
    import struct
    import termios

    assert struct.unpack("i", fcntl.ioctl(other, termios.FIONREAD, b"\0" * 4)) == (0,)
    os.close(other)
    os.close(main)


# Using the machine up


def test_a_fork_bomb(jail: Pybuild) -> None:
    script = """
        $SIG{ALRM} = sub { print qq(over\\n); kill 9, -1; exit }; alarm 2;
        while (1) {
            my $p = fork; if (defined $p and !$p) { sleep 9; exit }
            select(undef, undef, undef, 0.01) unless defined $p
        }
    """
    with jail.start("run", "--rm", "-q", "--pids-limit=40", IMAGE, "perl", "-e", script) as process:
        most = 0
        while process.poll() is None:
            most = max(most, _descendants(process.pid))
            try:
                process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
        assert process.stdout
        assert process.stdout.read() == "over\n"
    # Forty, and pybuild's own.
    assert 30 < most <= 40 + 8


def _descendants(pid: int) -> int:
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/stat").read_text(errors="replace")
            except OSError:
                continue
            parents[int(entry)] = int(text.rpartition(")")[2].split()[1])
    found, more = {pid}, True
    while more:
        new = {child for child, parent in parents.items() if parent in found} - found
        found |= new
        more = bool(new)
    return len(found)


def test_memory(jail: Pybuild) -> None:
    script = "my $x = 'x' x (300 << 20); print 'survived'"
    done = run(jail, "--memory=64m", "--strict", script=script, status=None, interpreter="perl")
    assert done.stdout == ""
    assert done.status == (137 if jail.person.kind == "root" else 125)


def test_the_clock_and_the_name_of_the_host(jail: Pybuild) -> None:
    before = os.uname().nodename
    all_denied(calls(jail, 'sethostname("other", 5)', 'setdomainname("other", 5)'))
    assert os.uname().nodename == before
