"""What each option of isolation does to a container: as root, with many ids, with one."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from tests.support.runner import Pybuild

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp")

IMAGE = "busybox"


def run(pybuild: Pybuild, *words: str, script: str, status: int = 0) -> str:
    return pybuild("run", "--rm", *words, IMAGE, "sh", "-c", script, status=status).stdout


def refused(pybuild: Pybuild, *words: str) -> str:
    return pybuild("run", "--rm", *words, IMAGE, "true", status=125).stderr


def fields(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


STATUS = "cat /proc/self/status"


def test_capabilities(pybuild: Pybuild) -> None:
    added = fields(run(pybuild, "--cap-add", "sys_admin", script=f"{STATUS}; mount -t tmpfs x /tmp"))
    assert added["CapEff"] == added["CapBnd"] == "00000000a82425fb"
    dropped = fields(run(pybuild, "--cap-drop=ALL", "--cap-add=CHOWN", script=STATUS))
    assert dropped["CapEff"] == dropped["CapBnd"] == "0000000000000001"
    user = fields(run(pybuild, "--user=7", "--cap-add=NET_ADMIN", script=STATUS))
    assert user["CapEff"] == "0" * 16
    assert user["CapBnd"] == "00000000a80435fb"


def test_security_options(pybuild: Pybuild, tmp_path: Path) -> None:
    seccomp = ("--security-opt", "seccomp=unconfined")
    done = fields(run(pybuild, *seccomp, "--security-opt=no-new-privileges", script=STATUS))
    assert done["NoNewPrivs"] == "1"
    # With one id the filter that records owners stays.
    assert done["Seccomp"] == ("2" if pybuild.person.kind == "single" else "0")
    run(pybuild, *seccomp, script="unshare -U true")
    run(pybuild, script="unshare -U true", status=1)
    profile = pybuild.out / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": '
        '[{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}'
    )
    script = "unshare -U true && chown 3:4 /tmp && ! mkdir /x 2>&1"
    assert "No space left" in run(pybuild, f"--security-opt=seccomp={profile}", script=script)
    assert "is not done" in refused(pybuild, "--security-opt=apparmor=mine")


def test_masked_paths(pybuild: Pybuild) -> None:
    look = "stat -c %t:%T /proc/timer_list; wc -c </proc/uptime; grep -c ' /proc/sys ' /proc/mounts"
    script = f"{look}; touch /tmp/x 2>&1; true"
    before = run(pybuild, script=script).splitlines()
    assert before[0] == "1:3"
    assert before[1] != "0"
    assert before[2:] == ["1"]
    options = ("--security-opt=systempaths=unconfined", "--security-opt=mask=/proc/uptime:/tmp")
    after = run(pybuild, *options, script=script).splitlines()
    assert after[:3] == ["0:0", "0", "0"]
    assert "Read-only" in after[3]


def test_privileged(pybuild: Pybuild) -> None:
    done = run(pybuild, "--privileged", script=f"mount -t tmpfs x /tmp && ls /dev && {STATUS}")
    own = fields(Path("/proc/self/status").read_text())["CapBnd"]
    everything = fields(done)["CapEff"]
    assert everything == (own if pybuild.person.kind == "root" else fields(done)["CapBnd"])
    assert int(everything, 16) & 1 << 21
    assert {"kmsg", "null"} <= set(done.split())
    assert "kmsg" not in run(pybuild, script="ls /dev").split()


def test_devices(pybuild: Pybuild) -> None:
    script = "ls -l /dev/nothing /dev/net/tun | cut -c1; echo x >/dev/nothing"
    done = run(pybuild, "--device=/dev/null:/dev/nothing:rw", "--device=/dev/net/tun", script=script)
    assert done.split() == ["c", "c"]
    assert "is not a device" in refused(pybuild, "--device=/etc/passwd")


@pytest.mark.parametrize("network", ["none", "private", "host"])
def test_ports_below_1024_are_open_to_all_users(pybuild: Pybuild, network: str) -> None:
    """And ping is; not where they are the host's."""
    names = [f"net.ipv4.{name}" for name in ("ip_unprivileged_port_start", "ping_group_range")]
    paths = " ".join("/proc/sys/" + name.replace(".", "/") for name in names)
    words = run(pybuild, f"--network={network}", "--user=5", script=f"cat {paths}").split()
    if network == "host":
        assert words[0] == Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
    else:
        assert words[:2] == ["0", "0"]
        assert int(words[2]) > 1000 or pybuild.person.kind == "single"
        start = run(pybuild, f"--network={network}", f"--sysctl={names[0]}=99", script=f"cat {paths}")
        assert start.split()[0] == "99"


def test_sysctls(pybuild: Pybuild) -> None:
    settings = {"kernel.shmmax": "12345", "fs.mqueue.msg_max": "20", "net.ipv4.ip_forward": "1"}
    words = [f"--sysctl={name}={value}" for name, value in settings.items()]
    paths = " ".join("/proc/sys/" + name.replace(".", "/") for name in settings)
    host = Path("/proc/sys/kernel/shmmax").read_text()
    assert run(pybuild, "--network=none", *words, script=f"cat {paths}").split() == list(settings.values())
    assert Path("/proc/sys/kernel/shmmax").read_text() == host
    assert "the whole machine's" in refused(pybuild, "--sysctl=vm.swappiness=1")
    assert "no such setting" in refused(pybuild, "--network=none", "--sysctl=net.nonsense=1")


def test_groups(pybuild: Pybuild) -> None:
    groups = run(pybuild, "--user=5:6", "--group-add=77", script="id -G").split()
    if pybuild.person.kind != "single":
        assert groups == ["6", "77"]
    if pybuild.person.kind == "ids":
        for option in ("--user=4000000", "--user=5:4000000", "--group-add=4000000"):
            assert "cannot be taken on" in refused(pybuild, option)
    assert "no group 'nobody-knows'" in refused(pybuild, "--group-add=nobody-knows")


def test_init_reaps_and_passes_status_on(pybuild: Pybuild) -> None:
    script = "echo $$; (sleep 0.05 & exec true); sleep 0.3; ps -o stat,comm; exit 7"
    with_init = run(pybuild, "--init", script=script, status=7).split()
    assert with_init[0] == "2"
    assert "Z" not in with_init
    run(pybuild, "--init", script="kill -TERM $$", status=143)
    assert pybuild("run", "--rm", "--init", IMAGE, "nonsense", status=127).stderr.count("nonsense") == 1
    exe = run(
        pybuild, "--init", script="readlink /proc/1/exe; echo x >/proc/1/exe 2>/dev/null || echo sealed"
    )
    assert "memfd" in exe
    assert "sealed" in exe


def test_init_passes_signals_on(pybuild: Pybuild) -> None:
    script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with pybuild.start("run", "--rm", "--init", IMAGE, "sh", "-c", script) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "got\n"
    assert process.returncode == 5


def test_init_leaves_the_terminal_to_the_command(pybuild: Pybuild) -> None:
    main, other = pty.openpty()
    words = (
        "run",
        "--rm",
        "-it",
        "--init",
        IMAGE,
        "sh",
        "-c",
        "trap 'echo g''ot; exit 5' INT; echo r''dy; sleep 9",
    )
    with pybuild.start(*words, stdin=other, stdout=other, stderr=other) as process:
        os.close(other)
        shown = b""
        while b"rdy" not in shown:
            shown += os.read(main, 1000)
        os.write(main, b"\x03")
        process.wait(timeout=20)
    os.close(main)
    assert process.returncode == 5


def test_the_hosts_processes(pybuild: Pybuild) -> None:
    own = str(os.getpid())
    assert own not in run(pybuild, script="ls /proc").split()
    script = "ls /proc; sleep 600 >/dev/null 2>&1 & chown 3:4 /tmp; echo pid $!"
    seen = run(pybuild, "--pid=host", script=script).split()
    assert own in seen
    # What it left was ended with it.
    assert not os.path.exists(f"/proc/{seen[-1]}")
    assert "denied" in run(pybuild, "--pid=host", script=f"ls /proc/{own}/root 2>&1; true")


def test_the_hosts_other_namespaces(pybuild: Pybuild) -> None:
    def names(*words: str) -> list[str]:
        return run(
            pybuild, *words, script="for n in ipc uts cgroup; do readlink /proc/self/ns/$n; done"
        ).split()

    host = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("ipc", "uts", "cgroup")]
    assert not set(names()) & set(host)
    assert names("--ipc=host", "--uts=host", "--cgroupns=host") == host
    for option in ("--uts=host", "--network=host"):
        assert run(pybuild, option, script="hostname").strip() == os.uname().nodename
    assert run(pybuild, "--network=host", "--hostname=mine", script="hostname").strip() == "mine"
    known = Path("/etc/hosts").read_text()
    assert run(pybuild, "--network=host", script="cat /etc/hosts").startswith(known)
    assert not run(pybuild, "--ipc=none", script="grep shm /proc/mounts || true")


def test_keep_id(pybuild: Pybuild) -> None:
    shared = pybuild.out / "shared"
    shared.mkdir()
    pybuild.person.own(shared)
    mount = ("--userns=keep-id", "-v", f"{shared}:/m")
    own = f"{pybuild.person.uid}:{pybuild.person.gid}"
    script = "touch /m/file; stat -c %u:%g /m /m/file; echo $(id -u):$(id -g)"
    assert run(pybuild, *mount, script=script).split() == [own] * 3
    info = (shared / "file").stat()
    assert f"{info.st_uid}:{info.st_gid}" == own
    if pybuild.person.kind == "ids":
        # Root is one of the subordinate ids then.
        assert run(pybuild, *mount, "--user=0", script="id -u; touch /m/other").split() == ["0"]
        assert (shared / "other").stat().st_uid > 65536


def test_oom_score(pybuild: Pybuild) -> None:
    assert run(pybuild, "--oom-score-adj=500", script="cat /proc/self/oom_score_adj") == "500\n"
    if pybuild.person.kind != "root":
        assert "only real root" in refused(pybuild, "--oom-score-adj=-500")


def test_the_namespaces_of_another_container(pybuild: Pybuild) -> None:
    script = "echo shared >/dev/shm/file; echo ready; exec sleep 600"
    pybuild("run", "-d", "-q", "--name=one", "-h", "first", IMAGE, "sh", "-c", script)
    shared = [f"--{kind}=container:one" for kind in ("pid", "ipc", "uts")]
    look = "ps -o comm; hostname; cat /dev/shm/file; chown 3:4 /tmp; kill -0 1 && echo reached"
    seen = run(pybuild, *shared, script=look).split()
    assert "sleep" in seen
    assert seen[-3:] == ["first", "shared", "reached"]
    # One by one, too: nothing else is shared with it.
    seen = run(pybuild, "--ipc=container:one", script=look).split()
    assert "sleep" not in seen
    assert "shared" in seen
    assert "first" not in seen
    # Each start looks for it anew.
    pybuild("run", "-q", "--name=two", *shared, IMAGE, "cat", "/dev/shm/file")
    pybuild("restart", "-t", "0", "one")
    assert pybuild("start", "-a", "two").stdout == "shared\n"
    pybuild("stop", "-t", "0", "one")
    assert "does not run" in pybuild("start", "two", status=None).stderr
    assert "does not run" in refused(pybuild, "--pid=container:one")
    assert "no such container" in refused(pybuild, "--uts=container:nobody")
    pybuild("rm", "one", "two")


def test_more_commands_in_a_container(pybuild: Pybuild) -> None:
    """Exec gets no further than the container's own command: its user, its limits, its files."""
    pybuild("run", "-d", "-q", "--name=one", "--userns=keep-id", "--pids-limit=6", IMAGE, "sleep", "600")
    own = f"{pybuild.person.uid}:{pybuild.person.gid}"
    done = pybuild("exec", "one", "sh", "-c", "echo $(id -u):$(id -g)")
    assert done.stdout.strip() == own
    assert pybuild("exec", "-u", "0", "one", "id", "-u").stdout == "0\n"
    # Together they are six.
    fork = "for i in 1 2 3; do sleep 600 & done; echo started"
    assert pybuild("exec", "one", "sh", "-c", fork).stdout == "started\n"
    assert "can't fork" in pybuild("exec", "one", "sh", "-c", fork, status=None).stderr
    done = pybuild("exec", "-w", "/proc/self/fd/5", "one", "pwd", status=None)
    assert done.stdout == ""
    assert "symbolic links" in done.stderr
    pybuild("rm", "-f", "one")
