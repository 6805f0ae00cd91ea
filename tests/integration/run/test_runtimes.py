"""The same container by an OCI runtime: crun and runc, as root, with many ids, with one."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path

import pexpect
import pytest

from tests.support.containers import supervisor_of
from tests.support.runner import Pybuild, Result
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp", "crun", "runc")

RUNTIMES = pytest.mark.parametrize("runtime", ["crun", "runc"])
IMAGE = "busybox"


def run(pybuild: Pybuild, runtime: str, *words: str, script: str, status: int | None = 0) -> Result:
    options = ("--runtime", runtime) if runtime else ()
    return pybuild("run", "--rm", "-q", *options, *words, IMAGE, "sh", "-c", script, status=status)


@RUNTIMES
def test_the_same_as_without(pybuild: Pybuild, runtime: str) -> None:
    """What a container finds of itself is told by both in the same words."""
    shared = pybuild.out / "shared"
    shared.mkdir()
    (shared / "file").write_text("shared\n")
    pybuild.person.own(shared)
    script = """
        id -u; pwd; hostname; umask; env | grep -v APT_CONFIG | sort
        grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | grep -v CapInh
        head -1 /etc/hosts; cat /v/file; echo x >/v/new; echo x >/tmp/new; ls /t
        cut -d' ' -f5 /proc/self/mountinfo | grep -vE '^/dev/[^ms]|^/sys/fs/cgroup' | sort
        ls /dev | grep -vE 'console|core|mqueue|pts' | sort
        ulimit -n; cat /proc/sys/kernel/shmmax
        (echo x >/proc/sys/kernel/shmmax) 2>/dev/null || echo closed
        cat /proc/timer_list 2>/dev/null | head -c 1; unshare -U true 2>&1
    """
    words = [
        "-h",
        "box",
        "-w",
        "/work",
        "-e",
        "A=b",
        "-v",
        f"{shared}:/v",
        "--tmpfs",
        "/t",
        "--cap-drop=CHOWN",
    ]
    words += ["--ulimit=nofile=123:456", "--sysctl=kernel.shmmax=54321", "--security-opt=no-new-privileges"]
    ours, theirs = (run(pybuild, which, *words, script=script, status=None) for which in ("", runtime))
    assert theirs.stdout.splitlines() == ours.stdout.splitlines()
    assert theirs.status == ours.status
    assert (shared / "new").exists()


@RUNTIMES
def test_statuses(pybuild: Pybuild, runtime: str) -> None:
    assert run(pybuild, runtime, script="exit 7", status=7).text == ""
    run(pybuild, runtime, script="sh -c 'kill -9 $$'; exit $?", status=137)
    words = ("run", "--rm", "-q", "--runtime", runtime, IMAGE)
    assert "nonsense" in pybuild(*words, "nonsense", status=127).stderr
    assert pybuild(*words, "/etc/passwd", status=126).stderr
    done = pybuild("run", "--rm", "-q", "--runtime", "no-such-program", IMAGE, "true", status=125)
    assert "no program no-such-program" in done.stderr
    done = pybuild("run", "--rm", "-q", "--runtime", "/bin/false", IMAGE, "true", status=125)
    assert "false could not make the container" in done.stderr


@RUNTIMES
def test_init(pybuild: Pybuild, runtime: str) -> None:
    """Process 1 collects what dies and passes signals on; the command is its child."""
    script = "sed -n 's/PPid:.//p' /proc/$$/status; readlink /proc/1/exe"
    done = run(pybuild, runtime, "--init", script=script)
    assert done.stdout.startswith("1\n")
    assert done.stdout.endswith("/dev/init\n")
    run(pybuild, runtime, "--init", script="exit 7", status=7)
    words = ("run", "--rm", "-q", "--init", "--runtime", runtime, IMAGE)
    assert "not found in $PATH" in pybuild(*words, "nonsense", status=127).stderr
    # What is orphaned is collected.
    orphan = "sh -c 'true & exec true'; while ps -o stat | grep -q Z; do :; done; echo none"
    assert run(pybuild, runtime, "--init", script=orphan).stdout == "none\n"
    script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with pybuild.start(*words, "sh", "-c", script) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "got\n"
    assert process.returncode == 5


@RUNTIMES
def test_streams_and_signals(pybuild: Pybuild, runtime: str) -> None:
    words = ("run", "--rm", "-q", "-i", "--runtime", runtime, IMAGE)
    assert pybuild(*words, "tr", "a-z", "A-Z", input="hello").stdout == "HELLO"
    script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with pybuild.start(*words, "sh", "-c", script) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "got\n"
    assert process.returncode == 5


@RUNTIMES
def test_a_terminal(pybuild: Pybuild, runtime: str) -> None:
    pybuild("run", "--rm", "-q", IMAGE, "true")
    words = ("run", "--rm", "-q", "-it", "--runtime", runtime, IMAGE, "sh")
    child = on_terminal(pybuild, *words, size=(33, 77))
    child.expect("# ")
    child.sendline("tty; stty size")
    child.expect("/dev/pts/0\r\n33 77")
    child.setwinsize(20, 50)
    child.expect("# ")
    child.sendline("while [ \"$(stty size)\" != '20 50' ]; do sleep 0.05; done; echo r''esized")
    child.expect("resized")
    child.expect("# ")
    child.sendline("cat")
    child.sendline("ready")
    # Once by the terminal, once by cat.
    child.expect("ready\r\nready\r\n")
    child.sendintr()
    child.expect("# ")
    child.sendline("exit 6")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 6


@RUNTIMES
def test_a_life(pybuild: Pybuild, runtime: str) -> None:
    """Detached, looked at, stopped, started again with its files, killed, removed."""
    pybuild(
        "run",
        "-d",
        "-q",
        "--runtime",
        runtime,
        "--name",
        "one",
        IMAGE,
        "sh",
        "-c",
        "echo x >>/file; sleep 600; true",
    )
    inspected = json.loads(pybuild("inspect", "one").stdout)[0]
    pid = inspected["State"]["Pid"]
    assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sh\0-c\0echo")
    bundle = next(pybuild.store.glob("containers/*/bundle"))
    document = json.loads((bundle / "config.json").read_text())
    assert document["ociVersion"] == "1.0.2"
    assert document["root"]["path"] == "rootfs"
    assert document["process"]["args"][:2] == ["sh", "-c"]
    pybuild("stop", "-t", "0", "one")
    assert not os.path.exists(f"/proc/{pid}")
    pybuild("start", "one")
    pybuild("kill", "one")
    pybuild("wait", "one")
    pybuild("rm", "one")
    assert not list(pybuild.store.glob("containers/*/bundle"))


@RUNTIMES
def test_killed_with_its_supervisor(pybuild: Pybuild, runtime: str) -> None:
    pybuild("run", "-d", "-q", "--runtime", runtime, "--name", "one", IMAGE, "sleep", "600")
    pid = json.loads(pybuild("inspect", "one").stdout)[0]["State"]["Pid"]
    descriptor = os.pidfd_open(pid)
    os.kill(supervisor_of(pybuild, "one"), signal.SIGKILL)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(10_000)
    os.close(descriptor)
    pybuild("rm", "-f", "one")


@RUNTIMES
def test_limits(root: Pybuild, runtime: str) -> None:
    eat = "x=$(head -c 80000000 /dev/zero | tr '\\0' x); echo survived"
    done = run(root, runtime, "--memory=32m", script=eat, status=137)
    assert "killed for lack of memory" in done.stderr
    fork = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done"
    assert "can't fork" in run(root, runtime, "--pids-limit=6", script=fork, status=None).stderr
    # No device but those that every container has.
    script = "mknod /dev/disk b 254 0 && head -c 1 /dev/disk"
    assert "not permitted" in run(root, runtime, script=script, status=1).stderr
    device = "head -c 1 /dev/fuse; ls -l /dev/fuse | cut -c1"
    assert run(root, runtime, "--device=/dev/fuse", script=device).stdout == "c\n"
    for number, words in enumerate(((), ("--memory=64m",), ("--memory=64m", "--pids-limit=9"))):
        id_file = root.out / f"id-{runtime}-{number}"
        run(root, runtime, *words, f"--cidfile={id_file}", script="true")
        assert list(Path("/sys/fs/cgroup").glob(f"**/{id_file.read_text().strip()}")) == []
    parent = ("--cgroup-parent=/pybuild-test/deep", "--memory=32m")
    assert "lack of memory" in run(root, runtime, *parent, script=eat, status=137).stderr
    for place in Path("/sys/fs/cgroup").glob("*/pybuild-test"):
        # Nothing is left in it.
        (place / "deep").rmdir()
        place.rmdir()


@RUNTIMES
def test_networks_and_namespaces(pybuild: Pybuild, runtime: str) -> None:
    words = ("--network=none", "--sysctl=net.ipv4.ip_forward=1")
    script = "ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward"
    assert run(pybuild, runtime, *words, script=script).stdout == "lo\n1\n"
    script = f"[ -d /proc/{os.getpid()} ] && echo seen"
    assert run(pybuild, runtime, "--pid=host", script=script).stdout == "seen\n"
    assert run(pybuild, runtime, "--uts=host", script="hostname").stdout.strip() == os.uname().nodename
    script = "! echo x >> /etc/hosts && touch /x"
    assert run(pybuild, runtime, "--read-only", script=script, status=1).stderr.count("Read-only") == 2
    assert (
        run(pybuild, runtime, "--privileged", script="mount -t tmpfs x /tmp && echo mounted").stdout
        == "mounted\n"
    )


@RUNTIMES
def test_ones_own_number(pybuild: Pybuild, runtime: str) -> None:
    """--userns=keep-id: in the same maps as without a runtime, and files are one's own."""
    if (pybuild.person.kind, runtime) == ("single", "runc"):
        done = run(pybuild, runtime, "--userns=keep-id", script="true", status=125)
        assert "one id is mapped" in done.stderr
        return
    shared = pybuild.out / "shared"
    shared.mkdir()
    pybuild.person.own(shared)
    script = "id -u; id -g; cd /proc/self; cat uid_map gid_map; touch /v/$1; grep Cap status"
    words = ("--userns=keep-id", "-v", f"{shared}:/v")
    ours, theirs = (
        run(pybuild, which, *words, script=script.replace("$1", which or "ours")).stdout.split("CapInh")
        for which in ("", runtime)
    )
    assert theirs == ours
    assert ours[0].split()[0] == str(pybuild.person.uid)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in shared.iterdir()} == {
        (pybuild.person.uid, pybuild.person.gid)
    }


def test_another_user_than_root_with_one_id(single: Pybuild) -> None:
    words = ("--user=5:6",)
    assert run(single, "crun", *words, script="id -u; id -g").stdout == "5\n6\n"
    assert "one id is mapped" in run(single, "runc", *words, script="true", status=125).stderr
