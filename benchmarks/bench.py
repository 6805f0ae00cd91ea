#!/usr/bin/env python3
"""Side-by-side benchmark of Dockerfile builders on one machine.

    bench.py --work DIR [--scenarios S1,S2] [--builders buildkit,pybuild] ...

Every scenario runs its builders interleaved (A B C A B C ...), so that noise from
the machine is shared. Images are checked by reading them back from a registry, not
by asking the builder. See README.md for the environment variables.
"""

import abc
import argparse
import json
import mmap
import os
import pwd
import random
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import threading
import time
import traceback

import regutil

KEEP_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# --------------------------------------------------------------------- processes


class Spawner:
    """Runs every measured command through spawn.py, which says why."""

    def __init__(self):
        here = os.path.dirname(os.path.abspath(__file__))
        self.proc = subprocess.Popen(
            [sys.executable, "-I", "-S", f"{here}/spawn.py"],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, **req):
        """Start the command; return (pid, function that waits for its result)."""
        self.proc.stdin.write(json.dumps(req) + "\n")
        self.proc.stdin.flush()
        pid = json.loads(self.proc.stdout.readline())["pid"]
        return pid, lambda: json.loads(self.proc.stdout.readline())


TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def proc_table():
    """{pid: (ppid, cpu seconds of it and its reaped children)}"""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    rest = f.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            table[int(name)] = (int(rest[1]), sum(map(int, rest[11:15])) / TICK)
    return table


def descendants(roots, table=None):
    table = table or proc_table()
    kids = {}
    for pid, (ppid, _) in table.items():
        kids.setdefault(ppid, []).append(pid)
    out, todo = [], [r for r in roots if r in table]
    while todo:
        pid = todo.pop()
        out.append(pid)
        todo += kids.get(pid, [])
    return out


def tree_cpu(roots):
    table = proc_table()
    return sum(table[p][1] for p in descendants(roots, table))


def rss_of(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as f:
                total += int(f.read().split()[1]) * PAGE
        except OSError:
            pass
    return total


def reset_peak(pids):
    for pid in pids:
        try:
            with open(f"/proc/{pid}/clear_refs", "w") as f:
                f.write("5")
        except OSError:
            pass


def peak_rss(pids):
    best = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as f:
                for line in f:
                    if line.startswith("VmHWM:"):
                        best = max(best, int(line.split()[1]) * 1024)
        except OSError:
            pass
    return best


def wait_quiet(limit):
    """Wait, at most limit seconds, for half a second in which the machine is nearly idle."""
    end = time.time() + limit
    while time.time() < end:
        before = busy_cpu()
        time.sleep(0.5)
        if busy_cpu() - before < 0.08:
            return


def touch_memory(limit=4 << 30):
    """Use free memory once and free it again, so that the host has backed it with pages.

    In a virtual machine that gives free memory back to its host, the first use of a page
    costs several times what later uses do, and whoever runs first would get the cheap ones.
    """
    with open("/proc/meminfo") as f:
        free = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemFree:"))
    size = min(limit, free - (1 << 30)) & ~0x1FFFFF
    if size <= 0:
        return
    pid = os.fork()
    if pid == 0:
        try:
            m = mmap.mmap(-1, size)
            m.madvise(mmap.MADV_HUGEPAGE)
            for at in range(0, size, PAGE):
                m[at] = 1
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def slow_after_delete(path):
    """True if path is on ext4 without a journal, which makes results depend on history.

    Such a file system does not reuse an inode for minutes after its deletion and looks at
    each of these again for every file created: once a big tree was removed, making files
    takes ten times as long. With a journal (or on xfs, tmpfs) this does not happen.
    """
    best, kind, dev = "", "", ""
    with open("/proc/self/mounts") as f:
        for line in f:
            source, where, fs = line.split()[:3]
            if (path + "/").startswith(where.rstrip("/") + "/") and len(where) >= len(best):
                best, kind, dev = where, fs, os.path.basename(source)
    try:
        journals = os.listdir("/proc/fs/jbd2")
    except OSError:
        journals = []
    return kind == "ext4" and not any(j.rsplit("-", 1)[0] == dev for j in journals)


def busy_cpu():
    with open("/proc/stat") as f:
        v = list(map(int, f.readline().split()[1:]))
    return (sum(v[:3]) + sum(v[5:8])) / TICK


class RssSampler(threading.Thread):
    """Samples the summed RSS of a process tree every 25 ms (only used by S10)."""

    def __init__(self, roots):
        super().__init__(daemon=True)
        self.roots, self.peak, self.done = roots, 0, False

    def run(self):
        while not self.done:
            self.peak = max(self.peak, rss_of(descendants(self.roots)))
            time.sleep(0.025)


# ----------------------------------------------------------------------- context


class Ctx:
    """Everything the scenarios and builders share: paths, user, registries, sizes."""

    def __init__(self, args):
        self.work = os.path.abspath(args.work)
        self.quick = args.quick
        self.timeout = args.timeout
        self.quiet = args.quiet
        os.makedirs(self.work, exist_ok=True)
        self.uid = self.gid = None
        if os.geteuid() == 0:
            try:
                pw = pwd.getpwnam(args.user)
                self.uid, self.gid = pw.pw_uid, pw.pw_gid
            except KeyError:
                print(f"note: no user {args.user}: rootless builders are skipped", file=sys.stderr)
        self.user = args.user
        self.port = args.port
        self.base = f"127.0.0.1:{args.port}"  # base images, http
        self.base_tls = f"127.0.0.1:{args.port + 1}"  # same, https (ch-image speaks only that)
        self.sink = f"127.0.0.1:{args.port + 2}"  # push target, http
        self.sink_tls = f"127.0.0.1:{args.port + 3}"
        self.spawner = Spawner()
        self.services = []
        os.makedirs(f"{self.work}/logs", exist_ok=True)

    def size(self, full, quick):
        return quick if self.quick else full

    def nonce(self):
        return os.urandom(8).hex()

    def service(self, name, argv, env=None, user=False, ready=None, wait=20):
        """Start a background process of ours; it is ended by stop()."""
        log = open(f"{self.work}/logs/{name}.log", "ab")
        ids = {"user": self.uid, "group": self.gid, "extra_groups": []} if user else {}
        p = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd=self.work,
            start_new_session=True,
            **ids,
        )
        self.services.append((name, p))
        end = time.time() + wait
        while time.time() < end:
            if p.poll() is not None:
                raise RuntimeError(f"{name} exited with {p.returncode}, see {log.name}")
            if ready is None or ready():
                return p
            time.sleep(0.1)
        raise RuntimeError(f"{name} did not become ready, see {log.name}")

    def stop(self):
        for name, p in reversed(self.services):
            tree = descendants([p.pid])
            p.terminate()
            try:
                p.wait(15)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
            for pid in tree[1:]:
                try:
                    os.kill(pid, signal.SIGTERM)
                except OSError:
                    pass
        self.services = []
        for pid in proc_table():  # rootless podman leaves a process that holds its mounts
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    mine = f"HOME={self.work}/b/".encode() in f.read()
                if mine:
                    os.kill(pid, signal.SIGTERM)
            except OSError:
                pass
        with open("/proc/self/mounts") as f:  # what the tools left mounted in our folder
            left = [line.split()[1] for line in f if f" {self.work}/b/" in line]
        for mount in reversed(left):
            subprocess.run(["umount", "-l", mount], capture_output=True)

    # registries and base images ------------------------------------------------

    def start_registries(self):
        reg = shutil.which(os.environ.get("DOCKER_REGISTRY", "docker-registry"))
        if not reg:
            raise SystemExit("docker-registry not found (set DOCKER_REGISTRY)")
        cert, key = f"{self.work}/cert.pem", f"{self.work}/key.pem"
        if not os.path.exists(cert):
            subprocess.run(
                [
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "365",
                    "-keyout",
                    key,
                    "-out",
                    cert,
                    "-subj",
                    "/CN=127.0.0.1",
                    "-addext",
                    "subjectAltName=IP:127.0.0.1",
                ],
                check=True,
                capture_output=True,
            )
        for i, (store, tls) in enumerate([("base", 0), ("base", 1), ("sink", 0), ("sink", 1)]):
            port = self.port + i
            conf = f"{self.work}/registry-{port}.yml"
            with open(conf, "w") as f:
                f.write(
                    f"version: 0.1\nlog: {{level: error}}\n"
                    f"storage:\n  filesystem: {{rootdirectory: {self.work}/reg-{store}}}\n"
                    f"  delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:{port}\n"
                    f"  secret: bench\n"
                )
                if tls:
                    f.write(f"  tls: {{certificate: {cert}, key: {key}}}\n")

            def listening(port=port):
                with socket.socket() as s:
                    return s.connect_ex(("127.0.0.1", port)) == 0

            if listening():
                raise SystemExit(f"port {port} is taken; choose another --port")
            self.service(f"registry-{port}", [reg, "serve", conf], ready=listening)

    def clear_sink(self):
        shutil.rmtree(f"{self.work}/reg-sink/docker", ignore_errors=True)

    def make_bases(self):
        have = f"{self.work}/bases.json"
        if os.path.exists(have):
            self.base_sizes = json.load(open(have))
            return
        scratch = f"{self.work}/scratch"
        os.makedirs(scratch, exist_ok=True)
        self.base_sizes = {}
        self._busybox(f"{scratch}/busybox.tar")
        self._debian(f"{scratch}/debpy.tar")
        for name in ("busybox", "debpy"):
            tar = f"{scratch}/{name}.tar"
            gz = regutil.push_base(self.base, name, "1", tar, scratch)
            self.base_sizes[name] = {"tar": os.path.getsize(tar), "gz": gz}
        json.dump(self.base_sizes, open(have, "w"))

    def _busybox(self, out):
        exe = shutil.which(os.environ.get("BUSYBOX", "busybox"))
        with tarfile.open(out, "w") as t:
            for d in ("bin", "etc", "proc", "sys", "dev", "root", "tmp", "usr", "usr/bin"):
                ti = tarfile.TarInfo(d)
                ti.type, ti.mode = tarfile.DIRTYPE, 0o1777 if d == "tmp" else 0o755
                t.addfile(ti)
            ti = t.gettarinfo(exe, "bin/busybox")
            ti.uid = ti.gid = 0
            ti.uname = ti.gname = "root"
            with open(exe, "rb") as f:
                t.addfile(ti, f)
            for app in subprocess.check_output([exe, "--list"], text=True).split():
                if app != "busybox":
                    ti = tarfile.TarInfo("bin/" + app)
                    ti.type, ti.linkname = tarfile.SYMTYPE, "busybox"
                    t.addfile(ti)
            for name, text in (
                ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
                ("etc/group", "root:x:0:\n"),
            ):
                tmp = out + ".txt"
                with open(tmp, "w") as f:
                    f.write(text)
                ti = tarfile.TarInfo(name)
                ti.size = len(text)
                with open(tmp, "rb") as f:
                    t.addfile(ti, f)
                os.unlink(tmp)

    def _debian(self, out):
        exe = shutil.which(os.environ.get("MMDEBSTRAP", "mmdebstrap"))
        full = out.removesuffix(".tar") + "-full.tar"
        if not os.path.exists(full):
            subprocess.run(
                [exe, "--quiet", "--variant=minbase", "--include=python3,ca-certificates", "bookworm", full],
                check=True,
            )
        drop = (
            "./var/lib/apt/lists/",
            "./usr/share/doc/",
            "./usr/share/locale/",
            "./usr/share/man/",
            "./var/cache/",
            "./var/log/",
            "./dev/",
        )
        with tarfile.open(full) as src, tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as dst:
            for ti in src:
                name = "./" + ti.name.removeprefix("./")
                if name.startswith(drop) and name not in drop:
                    continue
                dst.addfile(ti, src.extractfile(ti) if ti.isreg() else None)
        os.unlink(full)

    # trees -----------------------------------------------------------------------

    def tree(self, name, files, per_dir, mean, seed):
        """A source tree of text-like files under WORK/trees (made once)."""
        root = f"{self.work}/trees/{name}"
        mark = root + ".made"
        want = f"{files} {per_dir} {mean} {seed} v2"
        if os.path.exists(mark) and open(mark).read() == want:
            return root
        shutil.rmtree(root, ignore_errors=True)
        rnd = random.Random(seed)
        words = [
            "".join(rnd.choices("abcdefghijklmnopqrstuvwxyz_", k=rnd.randint(2, 11))) for _ in range(4000)
        ]
        # large enough that zstd's window does not find the same slice in another file
        pool = " ".join(rnd.choices(words, k=2_000_000)).encode()
        for i in range(files):
            d = f"{root}/d{i // per_dir:03}"
            if i % per_dir == 0:
                os.makedirs(d)
            size = max(64, int(rnd.expovariate(1 / mean)))
            size = min(size, mean * 12)
            at = rnd.randrange(len(pool) - size)
            with open(f"{d}/f{i:05}.txt", "wb") as f:
                f.write(pool[at : at + size])
        with open(f"{root}/changed.txt", "w") as f:
            f.write("first\n")
        with open(mark, "w") as f:
            f.write(want)
        return root


# ---------------------------------------------------------------------- builders


class Skip(Exception):
    pass


class Builder(abc.ABC):
    """One tool. Subclasses give command lines; measuring is done in one place."""

    name = "?"
    as_user = False
    can_run = True
    deletes_trees = False  # its builds remove whole trees: see slow_after_delete
    note = ""

    def __init__(self, ctx):
        self.ctx = ctx
        self.dir = f"{ctx.work}/b/{self.name}"
        self.base, self.sink = ctx.base, ctx.sink

    # to override
    def setup(self):
        return

    @abc.abstractmethod
    def build_argv(self, df, context, tag, no_cache=False, jobs=1):
        """The command line that builds."""

    @abc.abstractmethod
    def push_argv(self, df, context, tag):
        """The one that pushes."""

    def pull_argv(self, ref):
        return None

    def run_argv(self, tag, cmd):
        return None

    def prune_argvs(self):
        return []

    @abc.abstractmethod
    def version_argv(self):
        """The one that tells the version."""

    def daemons(self):
        return []

    # shared
    def tool(self, var, default):
        exe = shutil.which(os.environ.get(var, default))
        if not exe:
            raise Skip(f"{default} not found (set {var})")
        return exe

    def prepare_dirs(self):
        os.makedirs(self.dir, exist_ok=True)
        for d in ("home", "run", "df"):
            os.makedirs(f"{self.dir}/{d}", exist_ok=True)
        if self.as_user:
            if os.geteuid() == 0 and self.ctx.uid is None:
                raise Skip("no unprivileged user")
            if self.ctx.uid is not None:
                for d in ("", "home", "run", "df"):
                    os.chown(f"{self.dir}/{d}", self.ctx.uid, self.ctx.gid)
        os.chmod(f"{self.dir}/run", 0o700)

    def env(self):
        user = self.ctx.user if self.as_user else pwd.getpwuid(os.geteuid()).pw_name
        return {
            "PATH": os.environ.get("BENCH_PATH", KEEP_PATH),
            "HOME": f"{self.dir}/home",
            "XDG_RUNTIME_DIR": f"{self.dir}/run",
            "USER": user,
            "LOGNAME": user,
            "LANG": "C.UTF-8",
            "TMPDIR": f"{self.ctx.work}/tmp",
        }

    def tag(self, name):
        return f"{self.sink}/bench/{name}:{self.name}"

    def measure(self, argv, check=True, sample=False):
        """Run one command; return a dict of wall, cpu and memory figures."""
        ctx = self.ctx
        os.sync()
        wait_quiet(ctx.quiet)
        roots = self.daemons()
        pids = descendants(roots)
        reset_peak(pids)
        cpu0, busy0 = tree_cpu(roots), busy_cpu()
        ids = (ctx.uid, ctx.gid) if self.as_user else (None, None)
        log = f"{ctx.work}/logs/{self.name}.out"
        with open(log, "ab") as f:
            f.write(("\n$ " + shlex.join(argv) + "\n").encode())
        at = os.path.getsize(log)
        pid, wait = ctx.spawner.run(
            argv=argv, env=self.env(), cwd=self.dir, log=log, uid=ids[0], gid=ids[1], timeout=ctx.timeout
        )
        sampler = None
        if sample:
            sampler = RssSampler(roots + [pid])
            sampler.start()
        r = wait()
        if sampler:
            sampler.done = True
            sampler.join()
            r["rss_tree"] = sampler.peak
        r["cpu_daemon"] = round(tree_cpu(roots) - cpu0, 3)
        r["rss_daemon"] = peak_rss(pids)
        r["cpu_other"] = round(busy_cpu() - busy0 - r["cpu"] - r["cpu_daemon"], 2)
        r["load"] = os.getloadavg()[0]
        if check and r["rc"] != 0:
            with open(log, "rb") as f:
                f.seek(at)
                tail = f.read()[-1500:].decode(errors="replace")
            raise RuntimeError(f"{self.name}: exit {r['rc']}: {shlex.join(argv)}\n{tail}")
        return r

    def output(self, argv):
        """Run a command and return what it printed (not timed)."""
        log = f"{self.ctx.work}/logs/{self.name}.out"
        at = os.path.getsize(log) if os.path.exists(log) else 0
        self.measure(argv)
        with open(log, "rb") as f:
            f.seek(at)
            return f.read().decode(errors="replace").split("\n", 2)[-1]

    def dockerfile(self, name, text):
        path = f"{self.dir}/df/{name}.Dockerfile"
        with open(path, "w") as f:
            f.write(text.replace("{BASE}", self.base))
        os.chmod(path, 0o644)
        return path

    def build(self, df, context, tag, **kw):
        return self.measure(
            self.build_argv(df, context, tag, **{k: v for k, v in kw.items() if k != "sample"}),
            sample=kw.get("sample", False),
        )

    def push(self, df, context, tag):
        return self.measure(self.push_argv(df, context, tag))

    def prune_all(self):
        for argv in self.prune_argvs():
            self.measure(argv, check=False)
        self.settle()

    def settle(self, limit=30):
        """Wait until the daemon has finished what it does after a prune, if it has one."""
        end = time.time() + limit
        while self.daemons() and time.time() < end:
            before = tree_cpu(self.daemons())
            time.sleep(0.5)
            if tree_cpu(self.daemons()) - before < 0.03:
                return

    def warm(self, base):
        """Have the base image pulled and unpacked, outside any timing."""
        df = self.dockerfile("warm", f"FROM {{BASE}}/{base}\nENV N={self.ctx.nonce()}\nRUN true\n")
        self.build(df, f"{self.ctx.work}/trees/empty", self.tag("warm"))


class BuildKit(Builder):
    name = "buildkit"
    note = "buildkitd as root, overlayfs, runc, output type=image (gzip layers)"
    can_run = False
    compression = ""
    extra = ()

    def setup(self):
        self.ctl = self.tool("BUILDCTL", "buildctl")
        exe = self.tool("BUILDKITD", "buildkitd")
        runc = self.tool("RUNC", "runc")
        self.sock = f"{self.dir}/run/buildkitd.sock"
        conf = f"{self.dir}/buildkitd.toml"
        with open(conf, "w") as f:
            f.write("[worker.oci]\n  gc = false\n")
            for reg in (self.ctx.base, self.ctx.sink):
                f.write(f'[registry."{reg}"]\n  http = true\n  insecure = true\n')
        argv = [
            *self.wrap(),
            exe,
            *self.extra,
            "--config",
            conf,
            "--root",
            f"{self.dir}/root",
            "--addr",
            f"unix://{self.sock}",
            "--oci-worker=true",
            "--containerd-worker=false",
            f"--oci-worker-binary={runc}",
        ]
        self.daemon = self.ctx.service(
            self.name, argv, env=self.env(), user=self.as_user and self.ctx.uid is not None, ready=self.ready
        )

    def wrap(self):
        return []

    def ready(self):
        return (
            os.path.exists(self.sock)
            and subprocess.run(
                [self.ctl, "--addr", f"unix://{self.sock}", "debug", "workers"], capture_output=True
            ).returncode
            == 0
        )

    def daemons(self):
        return [self.daemon.pid]

    def version_argv(self):
        return [self.ctl, "--version"]

    def _build(self, df, context, tag, push, no_cache=False):
        out = f"type=image,name={tag}{self.compression}" + (",push=true" if push else "")
        return [
            self.ctl,
            "--addr",
            f"unix://{self.sock}",
            "build",
            "--progress=plain",
            "--frontend=dockerfile.v0",
            "--local",
            f"context={context}",
            "--local",
            f"dockerfile={os.path.dirname(df)}",
            "--opt",
            f"filename={os.path.basename(df)}",
            *(["--no-cache"] if no_cache else []),
            "--output",
            out,
        ]

    def build_argv(self, df, context, tag, no_cache=False, jobs=1):
        return self._build(df, context, tag, False, no_cache)

    def push_argv(self, df, context, tag):
        return self._build(df, context, tag, True)

    def prune_argvs(self):
        return [[self.ctl, "--addr", f"unix://{self.sock}", "prune", "--all"]]


class BuildKitRaw(BuildKit):
    name = "buildkit-raw"
    note = "as buildkit, but compression=uncompressed (no gzip in build or push)"
    compression = ",compression=uncompressed"


class BuildKitRootless(BuildKit):
    name = "buildkit-rootless"
    note = "buildkitd --rootless under rootlesskit (host network) as the unprivileged user"
    as_user = True
    extra = ("--rootless",)

    def wrap(self):
        return [
            self.tool("ROOTLESSKIT", "rootlesskit"),
            "--net=host",
            "--copy-up=/etc",
            "--copy-up=/run",
            f"--state-dir={self.dir}/run/rootlesskit",
        ]


class Docker(Builder):
    name = "docker"
    note = "dockerd with embedded BuildKit, overlay2, root"

    def setup(self):
        exe = self.tool("DOCKERD", "dockerd")

        # the client must match the daemon: newer ones need the buildx plug-in
        def release(cmd):
            return subprocess.check_output([cmd, "--version"], text=True).split()[2].strip(",")

        want = release(exe)
        found = (
            [os.environ["DOCKER"]]
            if "DOCKER" in os.environ
            else [f"{d}/docker" for d in os.environ["PATH"].split(":") + ["/usr/bin"]]
        )
        found = [p for p in found if os.path.exists(p)]
        same = [p for p in found if release(p) == want]
        if not found:
            raise Skip("docker not found (set DOCKER)")
        self.cli = (same or found)[0]
        self.sock = f"{self.dir}/run/docker.sock"
        argv = [
            exe,
            "--data-root",
            f"{self.dir}/data",
            "--exec-root",
            f"{self.dir}/exec",
            "-H",
            f"unix://{self.sock}",
            "--pidfile",
            f"{self.dir}/run/docker.pid",
            "--iptables=false",
            "--bridge=none",
        ]
        self.daemon = self.ctx.service(self.name, argv, env=self.env(), ready=self.ready, wait=40)

    def ready(self):
        return (
            os.path.exists(self.sock)
            and subprocess.run(
                [self.cli, "-H", f"unix://{self.sock}", "version"], capture_output=True
            ).returncode
            == 0
        )

    def env(self):
        return super().env() | {"DOCKER_BUILDKIT": "1", "DOCKER_HOST": f"unix://{self.sock}"}

    def daemons(self):
        return [self.daemon.pid]

    def version_argv(self):
        return [self.cli, "version", "--format", "client {{.Client.Version}} server {{.Server.Version}}"]

    def build_argv(self, df, context, tag, no_cache=False, jobs=1):
        return [
            self.cli,
            "build",
            "--network=host",
            "--progress=plain",
            *(["--no-cache"] if no_cache else []),
            "-t",
            tag,
            "-f",
            df,
            context,
        ]

    def push_argv(self, df, context, tag):
        return [self.cli, "push", tag]

    def pull_argv(self, ref):
        return [self.cli, "pull", ref]

    def run_argv(self, tag, cmd):
        return [self.cli, "run", "--rm", "--network=host", tag, *cmd]

    def prune_argvs(self):
        return [[self.cli, "system", "prune", "-af"], [self.cli, "builder", "prune", "-af"]]


class Buildah(Builder):
    name = "buildah"
    deletes_trees = True
    note = "root, overlay, --isolation=chroot, --layers; run = podman with runc"

    def setup(self):
        self.exe = self.tool("BUILDAH", "buildah")
        try:
            self.podman = self.tool("PODMAN", "podman")
        except Skip:
            self.can_run = False
        self.runc = self.tool("RUNC", "runc")
        self.conf = f"{self.dir}/registries.conf"
        with open(self.conf, "w") as f:
            for reg in (self.ctx.base, self.ctx.sink):
                f.write(f'[[registry]]\nlocation = "{reg}"\ninsecure = true\n')
        self.store = [
            "--root",
            f"{self.dir}/root",
            "--runroot",
            f"{self.dir}/run/containers",
            "--storage-driver",
            "overlay",
        ]

    def env(self):
        return super().env() | {"CONTAINERS_REGISTRIES_CONF": self.conf, "BUILDAH_ISOLATION": "chroot"}

    def version_argv(self):
        return [self.exe, "--version"]

    def build_argv(self, df, context, tag, no_cache=False, jobs=1):
        return [
            self.exe,
            *self.store,
            "bud",
            "--layers",
            f"--jobs={jobs}",
            *(["--no-cache"] if no_cache else []),
            "-t",
            tag,
            "-f",
            df,
            context,
        ]

    def push_argv(self, df, context, tag):
        return [self.exe, *self.store, "push", "--tls-verify=false", tag]

    def pull_argv(self, ref):
        return [self.exe, *self.store, "pull", "--tls-verify=false", ref]

    def run_argv(self, tag, cmd):
        return [
            self.podman,
            *self.store,
            f"--runtime={self.runc}",
            "--cgroup-manager=cgroupfs",
            "run",
            "--rm",
            "--network=host",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            tag,
            *cmd,
        ]

    def prune_argvs(self):
        return [[self.exe, *self.store, "rm", "-a"], [self.exe, *self.store, "rmi", "-a", "-f"]]


class BuildahRootless(Buildah):
    name = "buildah-rootless"
    note = "as buildah, by the unprivileged user (native overlay in a user namespace)"
    as_user = True

    def run_argv(self, tag, cmd):
        return [a for a in super().run_argv(tag, cmd) if a != "--ulimit=nproc=1024:1024"]


class ChImage(Builder):
    name = "ch-image"
    deletes_trees = True
    note = "Charliecloud, unprivileged user, git build cache, registry over TLS"
    as_user = True

    def setup(self):
        self.exe = self.tool("CH_IMAGE", "ch-image")
        self.ch_run = self.tool("CH_RUN", "ch-run")
        self.base, self.sink = self.ctx.base_tls, self.ctx.sink_tls
        with open(f"{self.dir}/home/.gitconfig", "w") as f:
            f.write("[user]\nname = bench\nemail = bench@localhost\n")

    def env(self):
        return super().env() | {"CH_IMAGE_STORAGE": f"{self.dir}/storage"}

    def version_argv(self):
        return [self.exe, "--version"]

    def build_argv(self, df, context, tag, no_cache=False, jobs=1):
        return [
            self.exe,
            "--tls-no-verify",
            *(["--rebuild"] if no_cache else []),
            "build",
            "-t",
            tag,
            "-f",
            df,
            context,
        ]

    def push_argv(self, df, context, tag):
        return [self.exe, "--tls-no-verify", "push", tag]

    def pull_argv(self, ref):
        return [self.exe, "--tls-no-verify", "pull", ref]

    def run_argv(self, tag, cmd):
        return [self.ch_run, tag, "--", *cmd]

    def prune_argvs(self):
        return [[self.exe, "reset"]]


class PyBuild(Builder):
    name = "pybuild"
    note = "command from $PYBUILD"

    def __init__(self, ctx):
        super().__init__(ctx)
        self.as_user = ctx.uid is not None and os.environ.get("PYBUILD_AS_ROOT") != "1"

    def setup(self):
        if not os.environ.get("PYBUILD"):
            raise Skip("PYBUILD is not set (benchmarks/run.sh sets it)")
        self.cmd = shlex.split(os.environ["PYBUILD"])
        self.note += " as root" if not self.as_user else " as the unprivileged user"

    def env(self):
        extra = {k: v for k, v in os.environ.items() if k.startswith(("PYBUILD_", "PYTHON"))}
        return (
            super().env()
            | {
                "XDG_DATA_HOME": f"{self.dir}/home/.local/share",
            }
            | extra
        )

    def template(self, var, default, **kw):
        text = os.environ.get(var, default)
        return [*self.cmd, *[part.format(**kw) for part in shlex.split(text)]]

    def version_argv(self):
        return [*self.cmd, "--version"]

    def build_argv(self, df, context, tag, no_cache=False, jobs=1):
        return [*self.cmd, "build", *(["--no-cache"] if no_cache else []), "-t", tag, "-f", df, context]

    def push_argv(self, df, context, tag):
        return self.template("PYBUILD_PUSH", "push {tag}", tag=tag)

    def pull_argv(self, ref):
        return self.template("PYBUILD_PULL", "pull {ref}", ref=ref)

    def run_argv(self, tag, cmd):
        return [*self.cmd, "run", "--rm", tag, *cmd]

    def prune_argvs(self):
        return [[*self.cmd, "prune", "-af"]]


BUILDERS = [PyBuild, BuildKit, BuildKitRaw, BuildKitRootless, Docker, Buildah, BuildahRootless, ChImage]


# --------------------------------------------------------------------- scenarios


class Scenario(abc.ABC):
    """prepare() once per builder, rep() once per builder and round, verify() at the end."""

    id, title, long = "", "", False
    many_files = False  # such scenarios run tools that delete trees last: see slow_after_delete
    skip = ()  # builders for which the scenario says nothing new

    def __init__(self, ctx):
        self.ctx = ctx

    def reps(self, args):
        return args.reps_long if self.long else args.reps_short

    def setup(self):
        return

    def prepare(self, b):
        return

    def before_round(self, field):
        return

    @abc.abstractmethod
    def rep(self, b, i):
        """One round of builder ``b``."""

    def verify(self, b):
        return []

    def cleanup(self, b):
        return

    def read_back(self, b, df, context, name):
        """Push the image and replay it from the registry."""
        tag = b.tag(name)
        b.push(df, context, tag)
        return regutil.read_image(self.ctx.sink, f"bench/{name}", b.name)


def sha(data):
    import hashlib

    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def set_changed(root, text):
    """Replace one file of the context in the way an editor does."""
    tmp = f"{root}/changed.txt.tmp"
    with open(tmp, "w") as f:
        f.write(text)
    os.replace(tmp, f"{root}/changed.txt")


class S1(Scenario):
    id, title = "S1", "no-op rebuild, 12 instructions, all cached"
    skip = ("buildkit-raw",)
    DF = """FROM {BASE}/busybox:1
LABEL org.example.title=bench
ENV APP=/app LEVEL=3
WORKDIR /app
COPY changed.txt ./
RUN cat /proc/sys/kernel/random/uuid > /uuid
COPY . ./src
RUN ls -R src > /list
RUN echo three > /three && mkdir -p /data
ENV MORE=1
EXPOSE 8080
CMD ["/bin/sh"]
"""

    def setup(self):
        self.tree = self.ctx.tree("small", 20, 10, 2000, 1)

    def prepare(self, b):
        self.df = b.dockerfile("s1", self.DF)
        b.build(self.df, self.tree, b.tag("s1"))
        b.s1 = self.read_back(b, self.df, self.tree, "s1")

    def rep(self, b, i):
        return {"S1 no-op rebuild": b.build(b.dockerfile("s1", self.DF), self.tree, b.tag("s1"))}

    def verify(self, b):
        _, before, _ = b.s1
        _, after, _ = self.read_back(b, b.dockerfile("s1", self.DF), self.tree, "s1")
        bad = [f"{p} missing" for p in ("uuid", "list", "three", "app/src/d001/f00010.txt") if p not in after]
        if not bad and before["uuid"].sha256 != after["uuid"].sha256:
            bad.append("RUN ran again: not a no-op")
        return bad


class S2(Scenario):
    id, title = "S2", "cold build of 20 tiny RUN steps on busybox"
    skip = ("buildkit-raw",)

    def prepare(self, b):
        b.warm("busybox:1")

    def rep(self, b, i):
        b.s2_nonce = self.ctx.nonce()
        lines = [f"FROM {{BASE}}/busybox:1\nENV NONCE={b.s2_nonce}\n"]
        lines += [f"RUN echo $NONCE {n} >> /log\n" for n in range(20)]
        b.s2_df = b.dockerfile("s2", "".join(lines))
        return {"S2 20 RUN steps": b.build(b.s2_df, f"{self.ctx.work}/trees/empty", b.tag("s2"))}

    def verify(self, b):
        cfg, files, man = self.read_back(b, b.s2_df, f"{self.ctx.work}/trees/empty", "s2")
        want = "".join(f"{b.s2_nonce} {n}\n" for n in range(20))
        return [] if "log" in files and files["log"].sha256 == sha(want) else ["/log is wrong"]


class S3(Scenario):
    id, title = "S3", "1 of 1,000 context files changed: COPY . + RUN"
    skip = ("buildkit-raw",)
    DF = """FROM {BASE}/busybox:1
WORKDIR /app
COPY . .
RUN cat changed.txt > /out && find . -type f | wc -l >> /out
"""

    def setup(self):
        self.tree = self.ctx.tree("thousand", 999, 50, 4000, 3)

    def prepare(self, b):
        b.build(b.dockerfile("s3", self.DF), self.tree, b.tag("s3"))

    def rep(self, b, i):
        b.s3_text = f"{b.name} {i} {self.ctx.nonce()}\n"
        set_changed(self.tree, b.s3_text)
        r = b.build(b.dockerfile("s3", self.DF), self.tree, b.tag("s3"))
        return {"S3 one file of 1,000 changed": r}

    def verify(self, b):
        set_changed(self.tree, b.s3_text)
        cfg, files, man = self.read_back(b, b.dockerfile("s3", self.DF), self.tree, "s3")
        return [] if files["out"].sha256 == sha(b.s3_text + "1000\n") else ["/out is wrong"]


def check_tree(files, prefix, root):
    """Every file of the directory root is in the image with the same content and owner 0."""
    bad, count = [], 0
    for folder, _, names in os.walk(root):
        for n in names:
            path = f"{folder}/{n}"
            inside = prefix + path[len(root) :]
            count += 1
            with open(path, "rb") as f:
                want = sha(f.read())
            e = files.get(inside)
            if e is None or e.sha256 != want:
                bad.append(f"{inside} {'missing' if e is None else 'differs'}")
            elif (e.uid, e.gid) != (0, 0):
                bad.append(f"{inside} owned by {e.uid}:{e.gid}")
    extra = sum(1 for p, e in files.items() if p.startswith(prefix + "/") and e.type == "f") - count
    if extra:
        bad.append(f"{extra} files too many")
    return bad[:5]


class S4(Scenario):
    id, title, long = "S4", "context of 50,000 files, about 200 MB: COPY", True
    many_files = True
    DF = "FROM {BASE}/busybox:1\nCOPY . /src\n"

    def setup(self):
        n = self.ctx.size(50_000, 2_000)
        self.tree = self.ctx.tree("many", n - 1, 100, 4000, 4)
        for folder, _, names in os.walk(self.tree):  # warm the page cache for all alike
            for name in names:
                open(f"{folder}/{name}", "rb").close()

    def before_round(self, field):
        for b in field:
            b.prune_all()
            b.warm("busybox:1")

    def rep(self, b, i):
        df = b.dockerfile("s4", self.DF)
        tag = b.tag("s4")
        set_changed(self.tree, f"cold {b.name} {i} {self.ctx.nonce()}\n")
        touch_memory()
        out = {"S4 cold COPY": b.build(df, self.tree, tag), "S4 no-op rebuild": b.build(df, self.tree, tag)}
        set_changed(self.tree, f"warm {b.name} {i} {self.ctx.nonce()}\n")
        out["S4 one file changed"] = b.build(df, self.tree, tag)
        b.s4_text = open(f"{self.tree}/changed.txt").read()
        return out

    def verify(self, b):
        set_changed(self.tree, b.s4_text)
        cfg, files, man = self.read_back(b, b.dockerfile("s4", self.DF), self.tree, "s4")
        b.info["S4 layer sizes"] = [x["size"] for x in man["layers"]]
        return check_tree(files, "src", self.tree)

    def cleanup(self, b):
        b.prune_all()


class S5(Scenario):
    id, title, long = "S5", "one 1 GiB incompressible layer: COPY, then push", True
    DF = "FROM {BASE}/busybox:1\nCOPY blob /blob\n"

    def setup(self):
        self.tree = f"{self.ctx.work}/trees/blob"
        self.size = self.ctx.size(1 << 30, 32 << 20)
        path = f"{self.tree}/blob"
        if not os.path.exists(path) or os.path.getsize(path) != self.size:
            os.makedirs(self.tree, exist_ok=True)
            with open(path, "wb") as f:
                for _ in range(self.size >> 20):
                    f.write(os.urandom(1 << 20))

    def rep(self, b, i):
        b.prune_all()
        self.ctx.clear_sink()
        b.warm("busybox:1")
        b.s5_stamp = f"{b.name:20.20} {self.ctx.nonce()}"
        with open(f"{self.tree}/blob", "r+b") as f:
            f.write(b.s5_stamp.encode())
        df, tag = b.dockerfile("s5", self.DF), b.tag("s5")
        touch_memory()
        out = {"S5 build": b.build(df, self.tree, tag), "S5 push": b.push(df, self.tree, tag)}
        out["S5 build + push"] = add(out["S5 build"], out["S5 push"])
        if i == 0:
            b.s5_bad = self.check_now(b)
        return out

    def check_now(self, b):
        import hashlib

        h = hashlib.sha256()
        with open(f"{self.tree}/blob", "rb") as f:
            while block := f.read(1 << 20):
                h.update(block)
        cfg, files, man = regutil.read_image(self.ctx.sink, "bench/s5", b.name)
        b.info["S5 layer sizes"] = [x["size"] for x in man["layers"]]
        return [] if files["blob"].sha256 == h.hexdigest() else ["/blob differs"]

    def verify(self, b):
        return b.s5_bad

    def cleanup(self, b):
        b.prune_all()
        self.ctx.clear_sink()


class S6(Scenario):
    id, title = "S6", "8 independent stages, each sleeps 2 s, merged by COPY --from"
    skip = ("buildkit-raw",)

    def prepare(self, b):
        b.warm("busybox:1")

    def rep(self, b, i):
        b.s6_nonce = self.ctx.nonce()
        text = ""
        for n in range(8):
            text += (
                f"FROM {{BASE}}/busybox:1 AS s{n}\nENV NONCE={b.s6_nonce}\n"
                f"RUN sleep 2; echo $NONCE {n} > /o{n}\n"
            )
        text += "FROM {BASE}/busybox:1\n"
        text += "".join(f"COPY --from=s{n} /o{n} /out/\n" for n in range(8))
        b.s6_df = b.dockerfile("s6", text)
        return {
            "S6 8 stages x sleep 2": b.build(b.s6_df, f"{self.ctx.work}/trees/empty", b.tag("s6"), jobs=8)
        }

    def verify(self, b):
        cfg, files, man = self.read_back(b, b.s6_df, f"{self.ctx.work}/trees/empty", "s6")
        return [
            f"/out/o{n} is wrong"
            for n in range(8)
            if f"out/o{n}" not in files or files[f"out/o{n}"].sha256 != sha(f"{b.s6_nonce} {n}\n")
        ]


class S7(Scenario):
    id, title, long = "S7", "RUN makes 20,000 files, COPY --from to a final stage, push", True
    many_files = True

    def code(self, n):
        return (
            "import os,random; r=random.Random(os.environ['NONCE']); "
            "w=['%05x'%r.randrange(1048576) for _ in range(3000)]; "
            f"[(os.makedirs('/opt/app/p%03d'%d), [open('/opt/app/p%03d/m%03d.py'%(d,i),'w')"
            ".write('N=%d\\n# '%(d*100+i)+' '.join(r.choices(w,k=250))+'\\n') "
            f"for i in range(100)]) for d in range({n // 100})]; "
            "open('/opt/app/nonce','w').write(os.environ['NONCE'])"
        )

    def prepare(self, b):
        b.warm("debpy:1")

    def rep(self, b, i):
        self.n = self.ctx.size(20_000, 500)
        b.s7_nonce = self.ctx.nonce()
        self.ctx.clear_sink()
        b.s7_df = b.dockerfile(
            "s7",
            f"""FROM {{BASE}}/debpy:1 AS build
ENV NONCE={b.s7_nonce}
RUN python3 -c "{self.code(self.n)}"
FROM {{BASE}}/debpy:1
COPY --from=build /opt/app /opt/app
RUN cd /opt/app && python3 -c "import sys; sys.path.insert(0,'p001'); import m007; print(m007.N)" > /proof
CMD ["python3"]
""",
        )
        empty, tag = f"{self.ctx.work}/trees/empty", b.tag("s7")
        touch_memory()
        out = {"S7 build": b.build(b.s7_df, empty, tag), "S7 push": b.push(b.s7_df, empty, tag)}
        out["S7 build + push"] = add(out["S7 build"], out["S7 push"])
        if i == 0:
            b.s7_bad = self.check_now(b)
        return out

    def check_now(self, b):
        cfg, files, man = regutil.read_image(self.ctx.sink, "bench/s7", b.name)
        b.info["S7 layer sizes"] = [x["size"] for x in man["layers"]]
        bad = []
        n = sum(1 for p, e in files.items() if p.startswith("opt/app/p") and p.endswith(".py"))
        if n != self.n:
            bad.append(f"{n} files instead of {self.n}")
        if files["opt/app/nonce"].sha256 != sha(b.s7_nonce):
            bad.append("nonce is wrong")
        if files["proof"].sha256 != sha("107\n"):
            bad.append("/proof is wrong")
        return bad

    def verify(self, b):
        return b.s7_bad

    def cleanup(self, b):
        b.prune_all()
        self.ctx.clear_sink()


class S8(Scenario):
    id, title = "S8", "run --rm IMAGE true"

    def reps(self, args):
        return args.reps_run

    def prepare(self, b):
        if not b.can_run:
            raise Skip("has no run command")
        nonce = self.ctx.nonce()
        df = b.dockerfile("s8", f"FROM {{BASE}}/busybox:1\nRUN echo {nonce} > /nonce\n")
        b.build(df, f"{self.ctx.work}/trees/empty", b.tag("s8"))
        out = b.output(b.run_argv(b.tag("s8"), ["cat", "/nonce"]))
        if nonce not in out:
            raise RuntimeError(f"run printed {out!r}, not {nonce}")
        b.measure(b.run_argv(b.tag("s8"), ["true"]))

    def rep(self, b, i):
        return {"S8 run --rm true": b.measure(b.run_argv(b.tag("s8"), ["true"]))}


class S9(Scenario):
    id, title = "S9", "Debian base from a cold store"
    skip = ("buildkit-raw",)

    def rep(self, b, i):
        out = {}
        ref = f"{b.base}/debpy:1"
        if b.pull_argv(ref):
            b.prune_all()
            touch_memory()
            out["S9 pull"] = b.measure(b.pull_argv(ref))
        b.prune_all()
        df = b.dockerfile("s9", "FROM {BASE}/debpy:1\nRUN python3 -c 'print(6*7)' > /ok\n")
        b.s9_df = df
        touch_memory()
        out["S9 cold FROM + RUN"] = b.build(df, f"{self.ctx.work}/trees/empty", b.tag("s9"))
        return out

    def verify(self, b):
        cfg, files, man = self.read_back(b, b.s9_df, f"{self.ctx.work}/trees/empty", "s9")
        bad = [] if files["ok"].sha256 == sha("42\n") else ["/ok is wrong"]
        if sum(1 for e in files.values() if e.type == "f") < 2000:
            bad.append("base files missing")
        return bad


class S10(S4):
    id, title = "S10", "memory and CPU of S4 (own run: RSS of the process tree is sampled)"

    def reps(self, args):
        return max(1, args.reps_long - 1)

    def rep(self, b, i):
        df, tag = b.dockerfile("s4", self.DF), b.tag("s4")
        set_changed(self.tree, f"cold {b.name} {i} {self.ctx.nonce()}\n")
        out = {
            "S10 cold COPY": b.build(df, self.tree, tag, sample=True),
            "S10 no-op rebuild": b.build(df, self.tree, tag, sample=True),
        }
        set_changed(self.tree, f"warm {b.name} {i} {self.ctx.nonce()}\n")
        out["S10 one file changed"] = b.build(df, self.tree, tag, sample=True)
        return out

    def verify(self, b):
        return []


SCENARIOS = [S1, S2, S3, S4, S5, S6, S7, S8, S9, S10]


def add(a, b):
    """Two measurements done one after the other, as one."""
    return {
        "wall": a["wall"] + b["wall"],
        "cpu": a["cpu"] + b["cpu"],
        "rc": 0,
        "cpu_daemon": a["cpu_daemon"] + b["cpu_daemon"],
        "rss": max(a["rss"], b["rss"]),
        "rss_daemon": max(a["rss_daemon"], b["rss_daemon"]),
        "cpu_other": a["cpu_other"] + b["cpu_other"],
        "load": b["load"],
    }


# ------------------------------------------------------------------------ report


def fmt(seconds):
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def cell(samples):
    walls = [s["wall"] for s in samples]
    return f"{fmt(statistics.median(walls))} ({fmt(min(walls))}–{fmt(max(walls))})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(r) + " |" for r in rows]
    return "\n".join(lines)


# What pybuild set itself: ratio to the best peer.
BARS = {
    "S1 no-op rebuild": 1.6,
    "S2 20 RUN steps": 0.6,
    "S3 one file of 1,000 changed": 0.6,
    "S4 cold COPY": 0.6,
    "S4 no-op rebuild": 0.8,
    "S4 one file changed": 0.6,
    "S5 build + push": 1.0,
    "S6 8 stages x sleep 2": 1.0,
    "S7 build + push": 0.8,
    "S8 run --rm true": 0.5,
    "S9 cold FROM + RUN": 0.8,
}


def reference(per, ref):
    """The median, in seconds, that ratios refer to: one builder's, or the best peer's."""
    names = [name for name in per if per[name] and (name == ref if ref != "best" else name != "pybuild")]
    return min((statistics.median(x["wall"] for x in per[name]) for name in names), default=0)


def report(res, ref):
    names = list(res["builders"])
    data = res["samples"]
    out = [
        f"Wall time of the whole command, median (min–max), n = samples per cell; "
        f"{res['machine']}; started {res['started']}.",
        "",
    ]
    rows = []
    for metric in data:
        n = max(len(v) for v in data[metric].values())
        noise = statistics.median(
            x["cpu_other"] / x["wall"] for v in data[metric].values() for x in v if x["wall"]
        )
        rows.append(
            [f"{metric} (n={n})"]
            + [cell(data[metric][b]) if data[metric].get(b) else "–" for b in names]
            + [f"{max(0, noise):.2f}"]
        )
    out += [
        table(["scenario"] + names + ["cores busy elsewhere"], rows),
        "",
        '"Cores busy elsewhere": CPU used meanwhile by anything that is not the builder '
        "(registry, kernel writeback, other users of the machine), median.",
        "",
        f"Ratio to {'the best peer' if ref == 'best' else ref} (below 1 is faster; bar: for pybuild):",
        "",
    ]
    rows = []
    for metric in data:
        mid = reference(data[metric], ref)
        if not mid:
            continue
        rows.append(
            [metric, f"{BARS[metric]:.1f}" if metric in BARS else "–"]
            + [
                f"{statistics.median(s['wall'] for s in data[metric][b]) / mid:.2f}"
                if data[metric].get(b)
                else "–"
                for b in names
            ]
        )
    out += [table(["scenario", "bar"] + names, rows), ""]
    out += ["CPU seconds, median: command + daemon (– where there is no daemon):", ""]
    rows = []
    for metric in data:
        row = [metric]
        for b in names:
            s = data[metric].get(b)
            if not s:
                row.append("–")
                continue
            cli = statistics.median(x["cpu"] for x in s)
            dmn = statistics.median(x["cpu_daemon"] for x in s)
            row.append(f"{cli:.2f} + {dmn:.2f}" if res["builders"][b]["daemon"] else f"{cli:.2f}")
        rows.append(row)
    out += [table(["scenario"] + names, rows), ""]
    rows = []
    for metric in data:
        if not metric.startswith("S10"):
            continue
        row = [metric]
        for b in names:
            s = data[metric].get(b)
            row.append(
                "–"
                if not s
                else " / ".join(
                    f"{max(x.get(k, 0) for x in s) / 1e6:.0f}" for k in ("rss", "rss_daemon", "rss_tree")
                )
            )
        rows.append(row)
    if rows:
        out += [
            "Peak memory, MB, largest of all rounds: biggest process of the command / daemon "
            "process / sampled sum of the whole tree (shared pages counted once per process):",
            "",
            table(["scenario"] + names, rows),
            "",
        ]
    if res.get("floors"):
        out += [
            "Floors of this machine:",
            "",
            table(
                ["what", "median", "min–max", "rate"],
                [
                    [k, fmt(v["median"]), f"{fmt(v['min'])}–{fmt(v['max'])}", v.get("rate", "")]
                    for k, v in res["floors"].items()
                ],
            ),
            "",
        ]
    out += ["Builders:", ""]
    out += [f"- {b}: {v['note']}; {v['version']}" for b, v in res["builders"].items()]
    out += ["", "Content checks (image read back from the registry):", ""]
    for sid, per in res["checks"].items():
        out.append(
            f"- {sid}: " + "; ".join(f"{b}: {'ok' if not bad else ', '.join(bad)}" for b, bad in per.items())
        )
    if res["skipped"]:
        out += ["", "Left out or failed:", ""] + [f"- {s}" for s in res["skipped"]]
    return "\n".join(out) + "\n"


def merge(results):
    """Several runs as one: samples are joined, later checks and floors win."""
    out = results[0]
    for r in results[1:]:
        out["builders"].update(r["builders"])
        for metric, per in r["samples"].items():
            for b, samples in per.items():
                out["samples"].setdefault(metric, {}).setdefault(b, []).extend(samples)
        for sid, per in r["checks"].items():
            out["checks"].setdefault(sid, {}).update(per)
        out["skipped"] += [x for x in r["skipped"] if x not in out["skipped"]]
        for b, info in r["info"].items():
            out["info"].setdefault(b, {}).update(info)
        if r.get("floors"):
            out["floors"] = r["floors"]
    order = [c.id for c in SCENARIOS]
    for key in ("samples", "checks"):
        out[key] = dict(sorted(out[key].items(), key=lambda kv: order.index(kv[0].split()[0])))
    return out


def machine():
    model = "?"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    mem = os.sysconf("SC_PHYS_PAGES") * PAGE >> 30
    return f"{os.cpu_count()} cores {model}, {mem} GiB, Linux {os.uname().release}"


# -------------------------------------------------------------------------- main


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument(
        "--work", required="--report" not in sys.argv, help="scratch directory (needs about 15 GB)"
    )
    ap.add_argument("--scenarios", default=",".join(s.id for s in SCENARIOS))
    ap.add_argument("--builders", default=",".join(b.name for b in BUILDERS))
    ap.add_argument(
        "--user",
        default=os.environ.get("BENCH_USER", "pybuild-ids"),
        help="unprivileged user for the rootless builders",
    )
    ap.add_argument("--reps-short", type=int, default=5)
    ap.add_argument("--reps-long", type=int, default=3)
    ap.add_argument("--reps-run", type=int, default=15, help="rounds of S8")
    ap.add_argument("--ref", default="best", help="builder that ratios refer to (best: the best peer)")
    ap.add_argument("--port", type=int, default=5610, help="first of four registry ports")
    ap.add_argument("--timeout", type=int, default=300, help="limit of one command, seconds")
    ap.add_argument(
        "--quiet",
        type=float,
        default=0,
        metavar="S",
        help="before each command wait up to S seconds for an idle machine",
    )
    ap.add_argument("--quick", action="store_true", help="small sizes: tests the harness only")
    ap.add_argument("--json", help="result file (default WORK/result.json)")
    ap.add_argument("--md", help="report file (default WORK/result.md)")
    ap.add_argument("--floors", action="store_true", help="measure the machine's floors too")
    ap.add_argument(
        "--report",
        metavar="JSON",
        nargs="+",
        help="only print the report of result files (samples are put together)",
    )
    args = ap.parse_args()
    if args.report:
        print(report(merge([json.load(open(p)) for p in args.report]), args.ref))
        return
    ctx = Ctx(args)
    json_path = args.json or f"{ctx.work}/result.json"
    md_path = args.md or f"{ctx.work}/result.md"
    res = {
        "machine": machine(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "argv": sys.argv[1:],
        "builders": {},
        "samples": {},
        "checks": {},
        "skipped": [],
        "info": {},
    }
    if slow_after_delete(ctx.work):
        note = (
            f"{ctx.work} is on ext4 without a journal: making files is slow there after "
            "trees were deleted, so S3, S4, S7 and S9 depend on what ran before"
        )
        print("warning:", note, file=sys.stderr)
        res["skipped"].append(note)
    os.chmod(ctx.work, 0o755)
    os.makedirs(f"{ctx.work}/tmp", exist_ok=True)
    os.chmod(f"{ctx.work}/tmp", 0o1777)
    os.makedirs(f"{ctx.work}/trees/empty", exist_ok=True)
    active = []

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)  # also when started in the background by a shell
    try:
        ctx.start_registries()
        ctx.make_bases()
        res["base_sizes"] = ctx.base_sizes
        known = {c.name: c for c in BUILDERS}
        for name in args.builders.split(","):
            b = known[name](ctx)
            try:
                b.prepare_dirs()
                b.setup()
                version = " ".join(b.output(b.version_argv()).split())
                b.prune_all()
            except Skip as e:
                res["skipped"].append(f"{name}: {e}")
                continue
            except Exception as e:
                res["skipped"].append(f"{name}: {e}")
                traceback.print_exc()
                continue
            b.info = res["info"].setdefault(name, {})
            res["builders"][name] = {"note": b.note, "version": version, "daemon": bool(b.daemons())}
            active.append(b)
        wanted = args.scenarios.split(",")  # "none" does nothing but --floors
        for cls in SCENARIOS:
            if cls.id in wanted:
                run_scenario(cls(ctx), active, args, res)
                json.dump(res, open(json_path, "w"), indent=1)
        if args.floors:
            import floors

            res["floors"] = floors.measure_all(ctx)
    except KeyboardInterrupt:
        res["skipped"].append("interrupted")
    finally:
        ctx.stop()
        json.dump(res, open(json_path, "w"), indent=1)
        text = report(res, args.ref)
        with open(md_path, "w") as f:
            f.write(text)
        print(text)
    sys.exit(1 if any(bad for per in res["checks"].values() for bad in per.values()) else 0)


def try_rep(s, b, i, res, tries=3):
    """One round; a failed one is noted and repeated, since some peers fail now and then."""
    for attempt in range(tries):
        try:
            if attempt:
                s.before_round([b])
            return s.rep(b, i)
        except Exception as e:
            res["skipped"].append(f"{s.id} round {i} attempt {attempt + 1} {b.name}: {e}")
            print(f"  {b.name}: FAILED: {e}", file=sys.stderr, flush=True)
    return None


def run_scenario(s, active, args, res):
    started = time.time()
    print(f"{s.id}: {s.title}", file=sys.stderr, flush=True)
    s.setup()
    field = []
    for b in active:
        if b.name in s.skip:
            continue
        for attempt in range(3):
            try:
                s.prepare(b)
                field.append(b)
                break
            except Skip as e:
                res["skipped"].append(f"{s.id} {b.name}: {e}")
                break
            except Exception as e:
                res["skipped"].append(f"{s.id} setup attempt {attempt + 1} {b.name}: {e}")
                print(f"  {b.name}: FAILED: {e}", file=sys.stderr, flush=True)
    reps = s.reps(args)
    for i in range(reps):
        turn = i % len(field) if field else 0  # each round starts with another builder
        order = field[turn:] + field[:turn]
        if s.many_files:
            order.sort(key=lambda b: b.deletes_trees)
        s.before_round(order)
        for b in order:
            got = try_rep(s, b, i, res)
            if got is None:
                field = [x for x in field if x is not b]
                continue
            for metric, r in got.items():
                res["samples"].setdefault(metric, {}).setdefault(b.name, []).append(r)
            line = ", ".join(f"{m} {fmt(r['wall'])}" for m, r in got.items())
            print(f"  {i} {b.name}: {line}", file=sys.stderr, flush=True)
    for b in field:
        try:
            bad = s.verify(b)
        except Exception as e:
            bad = [f"check failed: {e}"]
            traceback.print_exc()
        res["checks"].setdefault(s.id, {})[b.name] = bad
        if bad:
            print(f"  {b.name}: CHECK: {bad}", file=sys.stderr, flush=True)
    for b in active:
        if b.name not in s.skip:
            s.cleanup(b)
    print(f"  {s.id} took {time.time() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
