"""What a process finds in a sandbox, and what is left of it: as root, with many ids, with one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from buildkit_py.linux import caps
from tests.integration.sandbox.conftest import Sandboxes

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp")


def test_root_with_dockers_capabilities(sandbox: Sandboxes) -> None:
    done = sandbox.sh(
        "id -u; id -g; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; umask; hostname; echo $$"
    )
    assert done.status == 0
    words = done.out.split()
    assert words[:2] == ["0", "0"]
    status = dict(line.split(":\t") for line in done.out.splitlines() if ":\t" in line)
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == "00000000a80425fb"
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    # As in Docker: a filter, and set-uid programs work.
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "0"
    assert words[-3:] == ["0022", "buildkitsandbox", "1"]


def test_an_ordinary_user_has_no_capabilities(sandbox: Sandboxes) -> None:
    done = sandbox.sh("id; grep Cap /proc/self/status; touch /tmp/x", uid=1000, gid=1001, groups=(1001, 5))
    assert done.out.startswith("uid=1000 gid=1001")
    if sandbox.mode != "single":
        assert "groups=5,1001" in done.out
    assert "CapEff:\t0000000000000000" in done.out
    assert "CapBnd:\t00000000a80425fb" in done.out
    assert done.status == 0


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs x /tmp",
        "unshare -U true",
        "unshare -m true",
        "umount /proc",
        "hostname other",
        "chroot /proc/1/root/../.. true && cat /etc/hostname.of.the.host",
        "mknod /tmp/zero c 1 5 && head -c 1 /tmp/zero | grep -q .",
        "mknod /dev/mine c 1 5 && head -c 1 /dev/mine | grep -q .",
    ],
)
def test_forbidden(sandbox: Sandboxes, command: str) -> None:
    assert sandbox.sh(command).status != 0


def test_masked_and_readonly_paths(sandbox: Sandboxes) -> None:
    done = sandbox.sh(
        """
        for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
            cat $f 2>/dev/null | head -c1 | grep -q . && echo "read $f"
        done
        for d in /proc/acpi /proc/scsi /sys/firmware; do [ -d $d ] && ls $d; done
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/x /sys/x; do
            (echo x >$f) 2>/dev/null && echo "wrote $f"
        done
        true
        """
    )
    assert done.out == ""


def test_only_the_sandboxs_mounts(sandbox: Sandboxes) -> None:
    done = sandbox.sh("cut -d' ' -f2 /proc/mounts; stat -c %d:%i / /.. /proc/1/root/; ls -a /")
    lines = done.out.splitlines()
    places = [line for line in lines if line.startswith("/")]
    assert places.count("/") == 1
    assert {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/etc/hosts"} <= set(places)
    assert all(p == "/" or p.startswith(("/proc", "/dev", "/sys", "/etc/")) for p in places), places
    inodes = [line for line in lines if ":" in line]
    assert len(set(inodes)) == 1
    assert "home" not in lines


def test_devices(sandbox: Sandboxes) -> None:
    done = sandbox.sh(
        """
        for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo "no $d"; done
        echo x >/dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c
        echo x 2>&1 >/dev/full | grep -c space
        readlink /dev/fd; readlink /dev/stdin; readlink /dev/ptmx
        stat -c %a /dev/shm /dev/pts/ptmx /dev/null
        df -k /dev/shm | tail -1 | awk '{print $2}'
        """,
        shm_size=8 << 20,
    )
    assert done.out.split() == [
        *("4", "4", "1"),
        *("/proc/self/fd", "/proc/self/fd/0", "pts/ptmx"),
        *("1777", "666", "666"),
        "8192",
    ]


def test_processes_are_its_own(sandbox: Sandboxes) -> None:
    done = sandbox.sh("ls -d /proc/[0-9]* | wc -l; ipcs -m | grep -c 0x; readlink /proc/self/ns/pid")
    assert int(done.out.split()[0]) <= 4
    assert os.readlink("/proc/self/ns/pid") not in done.out


def test_no_descriptor_but_the_streams(sandbox: Sandboxes) -> None:
    done = sandbox.sh("ls /proc/$$/fd; true")
    assert done.out.split() == ["0", "1", "2"]
    # Nor in the main process, when it is over: 0 to 2, /dev/null, and the listing's own.
    assert sandbox.descriptors == 5


def test_environment_is_the_specs(sandbox: Sandboxes) -> None:
    done = sandbox.run("env", env=("PATH=/bin", "A=b=c", "E=", "caf\udce9=x"))
    lines = [line for line in done.out.splitlines() if not line.startswith("APT_CONFIG=")]
    assert lines[:3] == ["PATH=/bin", "A=b=c", "E="]
    assert len(lines) == 4


def test_hosts_and_resolv_conf_without_trace(sandbox: Sandboxes) -> None:
    done = sandbox.sh("cat /etc/hosts /etc/resolv.conf; echo 1.2.3.4 x >>/etc/hosts; tail -1 /etc/hosts")
    assert done.out == "127.0.0.1\tlocalhost\nnameserver 192.0.2.1\n1.2.3.4 x\n"
    assert done.upper == {}
    assert done.beside == ["fs", "work"]


@pytest.mark.parametrize("stubs", [True, False])
def test_mounts_without_trace(sandbox: Sandboxes, stubs: bool) -> None:
    (sandbox.folder / "bound").mkdir(mode=0o755)
    (sandbox.folder / "bound/f").write_text("bound\n")
    sandbox.person.own(sandbox.folder / "bound")
    mounts = [
        {"kind": "bind", "target": "/mnt/ro", "source": "{folder}/bound"},
        {"kind": "bind", "target": "/mnt/rw", "source": "{folder}/bound", "readonly": False},
        {"kind": "bind", "target": "/mnt/file", "source": "{folder}/bound/f"},
        {"kind": "tmpfs", "target": "/mnt/tmp", "readonly": False, "mode": 0o1777, "size": 1 << 20},
        {"kind": "file", "target": "/run/secrets/s", "data": "secret", "mode": 0o400},
        {"kind": "overlay", "target": "/mnt/tree", "layers": ["{folder}/busybox"], "source": "/data"},
        {
            "kind": "overlay",
            "target": "/mnt/loose",
            "layers": ["{folder}/busybox"],
            "source": "data",
            "readonly": False,
        },
        {"kind": "overlay", "target": "/mnt/one", "layers": ["{folder}/busybox"], "source": "/data/file"},
    ]
    script = """
    cat /mnt/ro/f /mnt/file /mnt/tree/file /mnt/one /run/secrets/s; echo
    touch /mnt/ro/x 2>/dev/null && echo wrote ro; touch /mnt/tree/x 2>/dev/null && echo wrote tree
    echo x >/mnt/rw/new && echo y >/mnt/tmp/t && echo changed >/mnt/loose/file && cat /mnt/loose/file
    stat -c '%a %s' /run/secrets/s /mnt/tmp
    """
    done = sandbox.many([{"args": ["sh", "-c", script], "mounts": mounts}], stubs=stubs)[0]
    assert done.error is None
    assert done.out.splitlines() == [
        "bound",
        "bound",
        "data",
        "data",
        "secret",
        "changed",
        "400 6",
        "1777 60",
    ]
    assert done.upper == {}
    assert done.beside == ["fs", "work"]
    assert (sandbox.folder / "bound/new").exists()
    assert (sandbox.folder / "busybox/data/file").read_text() == "data\n"


def test_what_a_killed_run_left_is_no_obstacle(sandbox: Sandboxes) -> None:
    spec = {"args": ["sh", "-c", "ls /mnt"], "mounts": [{"kind": "tmpfs", "target": "/mnt"}]}
    before = "os.makedirs(FOLDER + '/run0/stub/old/x')"
    done = sandbox.many([spec], before=before, stubs=False)[0]
    assert done.error is None
    assert done.beside == ["fs", "work"]


def test_a_mount_on_the_root_is_refused(sandbox: Sandboxes) -> None:
    done = sandbox.sh("true", mounts=[{"kind": "tmpfs", "target": "/x/.."}])
    assert done.error is not None
    assert "on / itself" in done.error["message"]


def test_an_image_that_names_our_own_executable(sandbox: Sandboxes) -> None:
    """It gets the sealed trampoline, which executes itself, not the host's Python."""
    before = """
busybox(FOLDER)
os.makedirs(FOLDER + "/evil/bin")
os.symlink("/proc/self/exe", FOLDER + "/evil/bin/evil")
"""
    spec = {
        "args": ["/bin/evil", "-c", "print('python')"],
        "layers": ["{folder}/evil", "{folder}/busybox"],
        "options": {"kill": 9},
    }
    done = sandbox.many([spec], before=before)[0]
    assert "python" not in done.out
    assert done.status != 0


def test_a_bind_of_a_link_is_refused(sandbox: Sandboxes) -> None:
    # A link in a build context could name any file of the host.
    (sandbox.folder / "link").symlink_to("/etc/passwd")
    mount = {"kind": "bind", "target": "/mnt", "source": "{folder}/link"}
    done = sandbox.sh("cat /mnt", mounts=[mount])
    assert "root:" not in done.out
    assert done.error is not None


def test_a_missing_source_is_named(sandbox: Sandboxes) -> None:
    done = sandbox.sh("true", mounts=[{"kind": "bind", "target": "/x", "source": "/no/such/thing"}])
    assert done.error is not None
    assert "/no/such/thing" in done.error["message"]
    assert done.error["errno"] == 2


DANGLING = """
os.makedirs(FOLDER + "/odd/etc", exist_ok=True)
os.symlink("../run/systemd/resolve/stub.conf", FOLDER + "/odd/etc/resolv.conf")
os.symlink("/../../../../../../../../{folder}/outside", FOLDER + "/odd/etc/hosts")
os.makedirs(FOLDER + "/odd/run", exist_ok=True)
os.utime(FOLDER + "/odd/run", ns=(10**18, 10**18))
"""


def test_links_in_the_image_stay_inside(sandbox: Sandboxes) -> None:
    outside = sandbox.folder / "outside"
    outside.write_text("host\n")
    sandbox.person.own(outside)
    spec = {
        "args": ["sh", "-c", "cat /etc/hosts /etc/resolv.conf; stat -c %Y /run; echo x >>/etc/hosts"],
        "layers": ["{folder}/odd", "{folder}/busybox"],
    }
    done = sandbox.many([{"args": ["true"]}, spec], before=DANGLING)[1]
    assert done.out.startswith("127.0.0.1\tlocalhost\nnameserver 192.0.2.1\n")
    assert outside.read_text() == "host\n"
    assert done.upper == {}
    assert done.beside == ["fs", "work"]


HIDDEN = """
os.makedirs(FOLDER + "/opaque/etc", exist_ok=True)
os.setxattr(FOLDER + "/opaque/etc", "user.overlay.opaque", b"y")
open(FOLDER + "/opaque/etc/kept", "w").close()
"""


@pytest.mark.parametrize("readonly", [False, True])
def test_stubs_that_the_image_hides(sandbox: Sandboxes, readonly: bool) -> None:
    spec = {
        "args": ["sh", "-c", "cat /etc/hosts; ls /etc; touch /new"],
        "layers": ["{folder}/opaque", "{folder}/busybox"],
        **({"upper": ""} if readonly else {}),
    }
    done = sandbox.many([{"args": ["true"]}, spec], before=HIDDEN)[1]
    assert done.out == "127.0.0.1\tlocalhost\nhosts\nkept\nresolv.conf\n"
    assert done.status == (1 if readonly else 0)
    assert set(done.upper) == (set() if readonly else {"new"})
    assert os.listdir(sandbox.folder / "opaque/etc") == ["kept"]


def test_a_readonly_root(sandbox: Sandboxes) -> None:
    done = sandbox.sh("touch /x || echo no; touch /dev/shm/x && cat /etc/hosts", upper="")
    assert done.out == "no\n127.0.0.1\tlocalhost\n"


def test_no_layers_at_all(sandbox: Sandboxes) -> None:
    mounts = [{"kind": "bind", "target": "/sh", "source": "/bin/busybox"}]
    done = sandbox.run("/sh", "-c", "echo /* >/out", layers=[], mounts=mounts)
    assert done.status == 0
    assert set(done.upper) == {"out"}


def test_a_plain_tree_as_root(sandbox: Sandboxes) -> None:
    tree = {
        "tree": "{folder}/busybox",
        "args": ["sh", "-c", "cat /etc/hosts; echo x >/made; ls -d /sys/class"],
    }
    done = sandbox.many([{"args": ["true"]}, tree])[1]
    assert done.out == "127.0.0.1\tlocalhost\n/sys/class\n"
    assert "made" in done.upper
    assert not {"proc", "etc/hosts", "sys", "dev", "etc"} & set(done.upper)


def test_working_directory_is_made(sandbox: Sandboxes) -> None:
    done = sandbox.sh("pwd; touch here", cwd="/srv/app")
    assert done.out == "/srv/app\n"
    assert set(done.upper) == {"srv", "srv/app", "srv/app/here"}
    assert done.upper["srv/app"][0] == "0o40755"


def test_exit_status(sandbox: Sandboxes) -> None:
    (sandbox.folder / "plain").write_text("#!/no/such/interpreter\n")
    (sandbox.folder / "plain").chmod(0o755)
    script = {"kind": "bind", "target": "/script", "source": "{folder}/plain"}
    done = sandbox.many(
        [
            {"args": ["sh", "-c", "exit 0"]},
            {"args": ["sh", "-c", "exit 42"]},
            {"args": ["no-such-program"]},
            {"args": ["/bin/no-such-program"]},
            {"args": ["/data/file"]},
            {"args": ["/data"]},
            {"args": ["/script"], "mounts": [script]},
            {"args": ["sleep", "60"], "options": {"kill": 9}},
            {
                "args": ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"],
                "options": {"kill": 15},
            },
            {"args": ["sh", "-c", "sleep 60 & (kill -9 $!; wait $!); exit 5"]},
        ]
    )
    assert [d.status for d in done] == [0, 42, 127, 127, 126, 126, 127, 137, 7, 5]
    assert done[2].err == 'exec: "no-such-program": executable file not found in $PATH\n'
    assert done[3].err == 'exec: "/bin/no-such-program": no such file or directory\n'
    assert done[4].err == 'exec: "/data/file": permission denied\n'
    assert "interpreter" in done[6].err


def test_network_none(sandbox: Sandboxes) -> None:
    done = sandbox.sh(
        "ifconfig -a | grep -c Link; ifconfig lo | grep -c UP; ls /sys/class/net", network="none"
    )
    assert done.out.split() == ["1", "1", "lo"]


def test_network_host(sandbox: Sandboxes) -> None:
    done = sandbox.sh("readlink /proc/self/ns/net")
    assert done.out.strip() == os.readlink("/proc/self/ns/net")


def test_terminal(sandbox: Sandboxes) -> None:
    done = sandbox.sh(
        "tty; test -t 0 && echo in; echo yes >/dev/tty; ps -o pid,tty | grep -c 136", terminal=True
    )
    assert done.out.splitlines()[:3] == ["/dev/console", "in", "yes"]


def test_terminal_of_a_user(sandbox: Sandboxes) -> None:
    done = sandbox.sh("tty; echo yes >/dev/tty", terminal=True, uid=1000, gid=1000)
    assert done.out.splitlines() == ["/dev/console", "yes"]


def test_limits(sandbox: Sandboxes) -> None:
    done = sandbox.sh("ulimit -n; ulimit -H -n", ulimits=[("nofile", 100, 200)])
    assert done.out.split() == ["100", "200"]
    bad = sandbox.sh("true", ulimits=[("nonsense", 1, 1)])
    assert bad.error is not None
    assert "nonsense" in bad.error["message"]


def test_privileged(sandbox: Sandboxes) -> None:
    done = sandbox.sh(
        "mkdir -p /m && mount -t tmpfs x /m && echo mounted; unshare -n true && echo unshared",
        privileged=True,
        capabilities=caps.ALL,
        seccomp="unconfined",
    )
    assert done.out == "mounted\nunshared\n"


def test_a_large_specification(sandbox: Sandboxes) -> None:
    env = ["PATH=/bin", *(f"V{n}={'x' * 100_000}" for n in range(10))]
    done = sandbox.sh("echo ${#V0} ${#V9}", env=env)
    assert done.out == "100000 100000\n"


def test_many_layers(sandbox: Sandboxes) -> None:
    before = """
for n in range(300):
    os.makedirs(f"{FOLDER}/many/l{n}-" + "x" * 40)
    open(f"{FOLDER}/many/l{n}-" + "x" * 40 + f"/f{n}", "w").close()
    open(f"{FOLDER}/many/l{n}-" + "x" * 40 + "/same", "w").write(str(n))
"""
    layers = [f"{{folder}}/many/l{n}-{'x' * 40}" for n in range(300)]
    spec = {
        "args": ["sh", "-c", "ls / | grep -c ^f; cat /same"],
        "layers": [*layers, "{folder}/busybox", layers[3]],
    }
    done = sandbox.many([{"args": ["true"]}, spec], before=before)[1]
    assert done.error is None
    assert done.out == "300\n0"


def test_many_layers_on_an_older_kernel(sandbox: Sandboxes) -> None:
    before = """
from buildkit_py.linux import overlay
overlay.has_lowerdir_plus = lambda: False
launcher.close()
launcher = Launcher.start(identity)
for n in range(200):
    os.makedirs(f"{FOLDER}/many/l{n}-" + "x" * 200)
"""
    before = (
        before.replace("launcher", "old")
        .replace("old.close()\n", "")
        .replace("old = ", "globals()['OLD'] = ")
    )
    layers = [f"{{folder}}/many/l{n}-{'x' * 200}" for n in range(200)]
    spec = {"args": ["sh", "-c", "rm /data/file; ls /data"], "layers": [*layers, "{folder}/busybox"]}
    done = sandbox.many([{"args": ["true"]}, spec], before=before.replace("identity", "userns.present()"))
    assert done[1].error is None
    assert done[1].out == "link\n"
    assert done[1].upper["data/file"][0] == "0o20000"


def test_odd_names(sandbox: Sandboxes) -> None:
    odd = "a,b:c\\d=e " + "y" * 240
    before = f"os.makedirs(FOLDER + {'/' + odd!r} + '/x'); busybox(FOLDER)"
    done = sandbox.many(
        [{"args": ["sh", "-c", "ls -d /x"], "layers": [f"{{folder}}/{odd}", "{folder}/busybox"]}],
        before=before,
    )[0]
    assert done.error is None
    assert done.out == "/x\n"


def test_the_same_upper_again(sandbox: Sandboxes) -> None:
    """A container that is started again; the first mount left its mark in the work directory."""
    spec = {"args": ["sh", "-c", "echo x >>/log; wc -l </log"], "upper": "{folder}/kept"}
    before = """
real = make_spec
def make_spec(number, fields):
    return real(0, fields)
"""
    done = sandbox.many([spec, spec], before=before)
    assert [d.out.strip() for d in done] == ["1", "2"]


def test_many_at_once(sandbox: Sandboxes) -> None:
    done = sandbox.many([{"args": ["sh", "-c", f"sleep 0.2; echo {n}"]} for n in range(24)], together=True)
    assert [d.out.strip() for d in done] == [str(n) for n in range(24)]
    assert sandbox.descriptors == 5


def test_a_sandbox_is_quick(sandbox: Sandboxes) -> None:
    """20 take 100 to 200 ms on an idle machine, on one mapped id (a process more) twice that. This is no
    benchmark: it only says that nothing became slower by a multiple."""
    rounds = [sum(d.seconds for d in sandbox.many([{"args": ["true"]}] * 20)) for _ in range(3)]
    assert min(rounds) < 1, rounds


def test_killed_main_process_leaves_nothing(sandbox: Sandboxes) -> None:
    script = "sleep 1000 & setsid sleep 1000 & trap '' TERM HUP; while :; do sleep 1; done"
    request = {"specs": [[{"args": ["sh", "-c", script]}, {}]] * 3, "together": True, "linger": True}
    process = sandbox.start(request)
    assert process.stdout is not None
    assert process.stderr is not None
    pids = [int(n) for n in process.stdout.readline().strip("[]\n").split(",")]
    time.sleep(0.2)
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    # What they left running is looked for by the leak check of every test.


def test_a_set_uid_command_dies_with_the_main_process(sandbox: Sandboxes) -> None:
    """Executing a set-uid file clears PR_SET_PDEATHSIG; the helper's pid namespace is what holds."""
    before = """
os.makedirs(FOLDER + "/suid/bin")
shutil.copy("/bin/busybox", FOLDER + "/suid/bin/su-sleep")
os.chmod(FOLDER + "/suid/bin/su-sleep", 0o4755)
busybox(FOLDER)
"""
    spec = {
        "args": ["/bin/su-sleep", "sleep", "1000"],
        "uid": 1000,
        "layers": ["{folder}/suid", "{folder}/busybox"],
    }
    process = sandbox.start({"specs": [[spec, {}]], "together": True, "linger": True, "before": before})
    assert process.stdout is not None
    assert process.stderr is not None
    pid = int(process.stdout.readline().strip("[]\n"))
    time.sleep(0.2)
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()
