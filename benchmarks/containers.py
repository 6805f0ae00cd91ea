"""`run --rm IMAGE true` by pybuild, crun, runc, podman and docker, on one root file system, in one run.

    python3 benchmarks/containers.py --pybuild .venv/bin/pybuild [--rounds 20] [--together 50]

As root; pybuild and podman are measured as an ordinary user as well. Every program runs once a round, in
turn (A B C, B C A, …), then so many of each at once. All containers have the host's network, so that what
is measured is the container and not a bridge. The report, in Markdown, goes to stdout; programs that are
missing, or refuse to work here, are named in it. Python 3.11 standard library only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pwd
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IMAGE = "localhost/bench:1"
COMMAND = "/bin/true"
PATIENCE = 120.0


class Contender:
    """A way to run a container. ``argv`` gives the command line for a number that is new each time."""

    def __init__(
        self,
        name: str,
        argv: Callable[[str], list[str]],
        *,
        user: str = "",
        env: dict[str, str] | None = None,
        cwd: str = "/",
    ) -> None:
        self.name = name
        self._argv = argv
        self._user = user
        self._env = {"PATH": PATH, "HOME": "/root", **(env or {})}
        self._cwd = cwd
        self.samples: list[float] = []
        self.together = 0.0
        self.trouble = ""

    def start(self, number: str) -> subprocess.Popen[bytes]:
        entry = pwd.getpwnam(self._user) if self._user else None
        as_user = (
            {
                "user": entry.pw_uid,
                "group": entry.pw_gid,
                "extra_groups": os.getgrouplist(self._user, entry.pw_gid),
            }
            if entry
            else {}
        )
        return subprocess.Popen(
            self._argv(number),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._cwd,
            env=self._env,
            **as_user,  # type: ignore[arg-type]
        )

    def once(self, number: str) -> float:
        """Seconds of one run. Raises RuntimeError where it failed."""
        begun = time.perf_counter()
        process = self.start(number)
        _, err = process.communicate(timeout=PATIENCE)
        took = time.perf_counter() - begun
        if process.returncode:
            words = err.decode(errors="replace").strip().splitlines()
            raise RuntimeError(words[-1] if words else f"status {process.returncode}")
        return took

    def many(self, count: int) -> float:
        """Seconds until so many, started one right after the other, have all ended."""
        begun = time.perf_counter()
        started = [self.start(f"many{n}") for n in range(count)]
        failed = []
        for process in started:
            _, err = process.communicate(timeout=PATIENCE)
            if process.returncode:
                failed.append(err.decode(errors="replace").strip())
        took = time.perf_counter() - begun
        if failed:
            raise RuntimeError(f"{len(failed)} of {count} failed: {failed[0].splitlines()[-1:]}")
        return took

    def stop(self) -> None:
        """End what it has running between the runs: podman without root keeps its namespaces by a process."""
        kept = Path(self._env.get("XDG_RUNTIME_DIR", "/nowhere"), "libpod/tmp/pause.pid")
        if kept.exists():
            os.kill(int(kept.read_text()), signal.SIGTERM)


class Warm(Contender):
    """A contender whose process is there already, with its modules loaded: see warm.py."""

    def __init__(self, like: Contender, program: str) -> None:
        super().__init__(f"{like.name}, modules loaded before", like._argv, user=like._user, env=like._env)
        with open(program, "rb") as script:
            python = script.readline().removeprefix(b"#!").split()[0].decode()
        words = like._argv("")[1:]
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("warm.py")), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._env,
            text=True,
        )

    def _run(self, count: int) -> float:
        assert self._process.stdin and self._process.stdout
        begun = time.perf_counter()
        print(count, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().strip()
        took = time.perf_counter() - begun
        if answer != "ok":
            raise RuntimeError(answer or "it has ended")
        return took

    def once(self, number: str) -> float:
        return self._run(1)

    def many(self, count: int) -> float:
        return self._run(count)

    def stop(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE)
        self._process.stdout.close()


def rootfs(work: Path) -> Path:
    """A root file system with a static busybox, world-readable; and ``rootfs.tar`` of it."""
    root = work / "rootfs"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox", path=PATH)
    if not busybox:
        sys.exit("busybox is missing: apt-get install busybox-static")
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "true", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    subprocess.run(["tar", "-C", root, "-cf", work / "rootfs.tar", "."], check=True)
    (work / "rootfs.tar").chmod(0o644)
    return root


# The contenders


def pybuild(program: str, work: Path, user: str, name: str, *options: str) -> Contender:
    store = work / f"pybuild-{user or 'root'}"
    env = {"PATH": PATH, "HOME": str(store), "PYBUILD_ROOT": str(store / "store")}
    if not store.exists():
        store.mkdir()
        if user:
            entry = pwd.getpwnam(user)
            os.chown(store, entry.pw_uid, entry.pw_gid)
        importing = Contender(
            "", lambda _: [program, "import", str(work / "rootfs.tar"), IMAGE], user=user, env=env
        )
        importing.once("")
    argv = [program, "run", "--rm", "--network", "host", *options, IMAGE, COMMAND]
    return Contender(name, lambda _: argv, user=user, env=env)


def oci(runtime: str, work: Path) -> Contender:
    """The runtime by itself, on a bundle that was made before."""
    bundle = work / f"bundle-{runtime}"
    bundle.mkdir()
    subprocess.run([runtime, "spec"], cwd=bundle, check=True, env={"PATH": PATH})
    document = json.loads((bundle / "config.json").read_text())
    document["process"].update(terminal=False, args=[COMMAND])
    document["root"] = {"path": str(work / "rootfs"), "readonly": False}
    document["linux"]["namespaces"] = [n for n in document["linux"]["namespaces"] if n["type"] != "network"]
    (bundle / "config.json").write_text(json.dumps(document))
    state = work / f"state-{runtime}"
    argv = [runtime, "--root", str(state), "run", "--bundle", str(bundle)]
    return Contender(f"{runtime} (bundle made before)", lambda number: [*argv, f"bench-{number}"])


def podman(work: Path, user: str = "") -> Contender:
    folder = work / f"podman-{user or 'root'}"
    folder.mkdir()
    (folder / "run").mkdir(mode=0o700)
    if user:
        entry = pwd.getpwnam(user)
        for path in (folder, folder / "run"):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    options = [
        "podman",
        "--root",
        str(folder / "root"),
        "--runroot",
        str(folder / "run"),
        "--cgroup-manager=cgroupfs",
    ]
    env = {"PATH": PATH, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}
    importing = Contender(
        "", lambda _: [*options, "import", str(work / "rootfs.tar"), IMAGE], user=user, env=env
    )
    importing.once("")
    # Its own limits are higher than a root without CAP_SYS_RESOURCE may set.
    more = ["--cgroups=disabled"] if user else ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
    argv = [*options, "run", "--rm", "--network=host", *more, IMAGE, COMMAND]
    return Contender(f"podman, {'rootless' if user else 'root'}", lambda _: argv, user=user, env=env)


class Docker:
    """A daemon of our own."""

    def __init__(self, work: Path) -> None:
        folder = work / "docker"
        folder.mkdir()
        self.host = f"unix://{folder}/docker.sock"
        command = [
            "dockerd",
            "--data-root",
            f"{folder}/data",
            "--exec-root",
            f"{folder}/exec",
            "-H",
            self.host,
        ]
        command += ["--pidfile", f"{folder}/pid", "--bridge=none", "--iptables=false", "--log-level=error"]
        self._log = open(folder / "log", "wb")
        self.daemon = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, env={"PATH": PATH, "HOME": "/root"}
        )
        end = time.monotonic() + 60
        while subprocess.run(
            [*self._client(), "version"], capture_output=True, env={"PATH": PATH}
        ).returncode:
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise RuntimeError("dockerd does not start: " + (folder / "log").read_text()[-300:])
            time.sleep(0.2)
        subprocess.run(
            [*self._client(), "import", str(work / "rootfs.tar"), IMAGE],
            check=True,
            capture_output=True,
            env={"PATH": PATH},
        )

    def _client(self) -> list[str]:
        return [shutil.which("docker", path="/usr/bin:" + PATH) or "docker", "-H", self.host]

    def contender(self) -> Contender:
        argv = [*self._client(), "run", "--rm", "--network=host", IMAGE, COMMAND]
        return Contender("docker (its daemon runs)", lambda _: argv)

    def stop(self) -> None:
        self.daemon.terminate()
        self.daemon.wait(timeout=60)
        self._log.close()


# Measuring


def hide_hybrid_cgroups() -> None:
    """crun refuses to work where version 2 of the control groups has controllers beside version 1: all
    contenders see version 1 alone, in a mount namespace of the benchmark's."""
    if os.path.exists("/sys/fs/cgroup/unified"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 16384 | 1 << 18, None):
            sys.exit("benchmarks need real root")
        libc.umount2(b"/sys/fs/cgroup/unified", 2)


def measure(contenders: list[Contender], rounds: int, together: int) -> None:
    for contender in list(contenders):
        try:
            contender.once("warm0")
            contender.once("warm1")
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            contender.trouble = str(e)
    working = [c for c in contenders if not c.trouble]
    for number in range(rounds):
        for place in range(len(working)):
            contender = working[(place + number) % len(working)]
            contender.samples.append(contender.once(f"{number}"))
    for contender in working:
        try:
            contender.together = contender.many(together)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            contender.trouble = str(e)


def report(contenders: list[Contender], rounds: int, together: int) -> str:
    working = [c for c in contenders if c.samples]
    best = min(statistics.median(c.samples) for c in working)
    head = (
        "`run --rm IMAGE true`",
        f"median of {rounds}, ms",
        "fastest, ms",
        "to the best",
        f"{together} at once, s",
    )
    lines = ["| " + " | ".join(head) + " |", "|---|---:|---:|---:|---:|"]
    for c in sorted(working, key=lambda c: statistics.median(c.samples)):
        middle = statistics.median(c.samples)
        many = f"{c.together:.2f}" if c.together else "failed"
        lines.append(
            f"| {c.name} | {middle * 1000:.0f} | {min(c.samples) * 1000:.0f} | {middle / best:.1f} | {many} |"
        )
    lines += [f"\n{c.name}: {c.trouble}" for c in contenders if c.trouble]
    cores, load = os.cpu_count(), os.getloadavg()[0]
    lines.append(f"\n{cores} cores, Linux {os.uname().release}, load {load:.1f} at the end")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pybuild", default=os.environ.get("PYBUILD", "pybuild"), help="its path")
    parser.add_argument(
        "--user", default=os.environ.get("BENCH_USER", "pybuild-ids"), help="has subordinate ids"
    )
    parser.add_argument("--single-user", default="pybuild-single", help="has none; '' to leave it out")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--together", type=int, default=50)
    parser.add_argument("--work", default="/var/tmp", help="where the stores lie meanwhile")
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("as root, please: daemons are measured too")
    hide_hybrid_cgroups()
    os.umask(0o022)
    os.makedirs(arguments.work, exist_ok=True)
    # podman takes no path of more than 50 characters for its run-time files.
    work = Path(tempfile.mkdtemp(prefix="cb", dir=arguments.work))
    work.chmod(0o755)
    docker: Docker | None = None
    contenders: list[Contender] = []
    missing: list[str] = []

    def add(name: str, make: Callable[[], Contender]) -> None:
        try:
            contenders.append(make())
        except (OSError, RuntimeError, subprocess.SubprocessError) as e:
            missing.append(f"{name}: {e}")

    try:
        rootfs(work)
        program = shutil.which(arguments.pybuild) or arguments.pybuild
        add("pybuild", lambda: pybuild(program, work, "", "pybuild, root"))
        if contenders:
            add("pybuild, modules loaded before", lambda: Warm(contenders[0], program))
        add("pybuild", lambda: pybuild(program, work, arguments.user, "pybuild, rootless"))
        if arguments.single_user:
            add("pybuild", lambda: pybuild(program, work, arguments.single_user, "pybuild, rootless, one id"))
        add("pybuild", lambda: pybuild(program, work, "", "pybuild --runtime crun, root", "--runtime=crun"))
        for runtime in ("crun", "runc"):
            add(runtime, lambda runtime=runtime: oci(runtime, work))  # type: ignore[misc]
        add("podman", lambda: podman(work))
        add("podman, rootless", lambda: podman(work, arguments.user))
        try:
            docker = Docker(work)
            contenders.append(docker.contender())
        except (OSError, RuntimeError, subprocess.SubprocessError) as e:
            missing.append(f"docker: {e}")
        measure(contenders, arguments.rounds, arguments.together)
        print(report(contenders, arguments.rounds, arguments.together))
        for line in missing:
            print(f"\nnot here: {line}")
    finally:
        for contender in contenders:
            contender.stop()
        if docker is not None:
            docker.stop()
        with open("/proc/self/mountinfo") as f:
            mounted = [line.split()[4] for line in f if str(work) in line.split()[4]]
        for place in sorted(mounted, reverse=True):
            subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
