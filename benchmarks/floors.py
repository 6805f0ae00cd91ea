"""What this machine can do at best for the work in each scenario.

Called by bench.py --floors; uses the same trees, base images and registries.
Rates are MB/s (10^6 bytes) unless they say otherwise.
"""

import hashlib
import http.client
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
import zlib

import regutil


class Floors:
    def __init__(self, ctx):
        self.ctx = ctx
        self.out = {}
        self.dir = f"{ctx.work}/floors"
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o777)

    def record(self, name, times, nbytes=None, count=None, unit="files"):
        entry = {"median": statistics.median(times), "min": min(times), "max": max(times)}
        if nbytes:
            entry["rate"] = f"{nbytes / entry['median'] / 1e6:.0f} MB/s"
        if count:
            entry["rate"] = f"{count / entry['median']:.0f} {unit}/s"
        self.out[name] = entry
        print(
            f"  {name}: {entry['median'] * 1000:.1f} ms {entry.get('rate', '')}", file=sys.stderr, flush=True
        )

    def py(self, name, fn, n=3, before=None, **kw):
        times = []
        for _ in range(n):
            if before:
                before()
            wait_quiet(self.ctx.quiet)
            start = time.perf_counter()
            fn()
            times.append(time.perf_counter() - start)
        self.record(name, times, **kw)

    def sh(self, name, cmd, n=3, user=False, before=None, **kw):
        """Time one command; a string goes through sh -c."""
        argv = ["sh", "-c", cmd] if isinstance(cmd, str) else cmd
        ids = (self.ctx.uid, self.ctx.gid) if user else (None, None)
        times = []
        for _ in range(n):
            if before:
                before()
            os.sync()
            wait_quiet(self.ctx.quiet)
            log = f"{self.dir}/log"
            _, wait = self.ctx.spawner.run(
                argv=argv,
                env={"PATH": os.environ["PATH"]},
                cwd=self.dir,
                log=log,
                uid=ids[0],
                gid=ids[1],
                timeout=300,
            )
            r = wait()
            if r["rc"]:
                with open(log) as f:
                    print(f"  {name}: failed: {f.read()[-300:]}", file=sys.stderr)
                return
            times.append(r["wall"])
        self.record(name, times, **kw)


def walk(root, read=False):
    total, todo = 0, [root]
    while todo:
        with os.scandir(todo.pop()) as it:
            for e in it:
                if e.is_dir(follow_symlinks=False):
                    todo.append(e.path)
                elif read:
                    with open(e.path, "rb", buffering=0) as f:
                        hashlib.sha256(f.read()).digest()
                else:
                    total += e.stat(follow_symlinks=False).st_size
    return total


def bundle(f, name):
    """An OCI bundle of the busybox base that runs /bin/true."""
    root = f"{f.dir}/{name}"
    os.makedirs(f"{root}/rootfs")
    with tarfile.open(f"{f.ctx.work}/scratch/busybox.tar") as t:
        t.extractall(f"{root}/rootfs", filter="fully_trusted") if hasattr(
            tarfile, "data_filter"
        ) else t.extractall(f"{root}/rootfs")
    subprocess.run(["runc", "spec"], cwd=root, check=True)
    with open(f"{root}/config.json") as c:
        spec = json.load(c)
    spec["process"].update(args=["/bin/true"], terminal=False, rlimits=[])
    spec["linux"]["namespaces"] = [
        x for x in spec["linux"]["namespaces"] if x["type"] in ("pid", "mount", "ipc", "uts")
    ]
    spec["linux"].pop("resources", None)
    with open(f"{root}/config.json", "w") as c:
        json.dump(spec, c)
    return root


def put_blob(ctx, path, digest):
    host, port = ctx.sink.split(":")
    c = http.client.HTTPConnection(host, int(port))
    c.request("POST", "/v2/bench/floor/blobs/uploads/", body=b"", headers={"Content-Length": "0"})
    r = c.getresponse()
    r.read()
    where = r.getheader("Location").split(ctx.sink, 1)[-1]
    c.close()
    c = http.client.HTTPConnection(host, int(port), blocksize=1 << 20)
    with open(path, "rb") as body:
        c.request(
            "PUT",
            f"{where}&digest=sha256:{digest}",
            body=body,
            headers={"Content-Length": str(os.path.getsize(path))},
        )
        r = c.getresponse()
        r.read()
    c.close()
    if r.status != 201:
        raise RuntimeError(f"registry said {r.status}")


def measure_all(ctx):
    global wait_quiet
    from __main__ import wait_quiet

    f = Floors(ctx)
    print("floors", file=sys.stderr)
    py = sys.executable
    many = ctx.tree("many", ctx.size(50_000, 2_000) - 1, 100, 4000, 4)
    files = sum(len(names) for _, _, names in os.walk(many))
    nbytes = walk(many)
    blob = f"{ctx.work}/trees/blob/blob"
    if not os.path.exists(blob):
        from bench import S5

        S5(ctx).setup()
    bsize = os.path.getsize(blob)
    q = shlex.quote

    # starting things
    f.sh("fork + exec /bin/true", ["/bin/true"], n=20)
    f.sh("python3 -I -S -c pass", [py, "-I", "-S", "-c", "pass"], n=20)
    f.sh("python3 -c pass", [py, "-c", "pass"], n=20)
    f.sh(
        "python3, imports json re tarfile hashlib subprocess http.client argparse",
        [py, "-I", "-S", "-c", "import json,re,tarfile,hashlib,subprocess,http.client,argparse"],
        n=20,
    )
    f.sh("unshare -Urmpf true (unprivileged)", ["unshare", "-Urmpf", "true"], n=20, user=True)
    f.sh(
        "unshare -Urmpf + mount overlay + proc + true (unprivileged)",
        [
            "unshare",
            "-Urmpf",
            "sh",
            "-c",
            "mkdir -p l u w m p && mount -t overlay o -o "
            "lowerdir=l,upperdir=u,workdir=w m && mount -t proc p p && exec true",
        ],
        n=20,
        user=True,
    )
    if shutil.which("runc"):
        box = bundle(f, "box")
        state = f"{f.dir}/state"
        f.sh("runc run true (root)", ["runc", "--root", state, "run", "-b", box, "x"], n=15)
        if shutil.which("crun"):
            f.sh(
                "crun run true (root, no cgroup)",
                # crun refuses cgroup v1 and v2 mounted together, as on some test machines
                ["crun", "--root", state, "--cgroup-manager=disabled", "run", "-b", box, "y"],
                n=15,
            )
    f.sh("chroot busybox true (root)", ["chroot", f"{f.dir}/box/rootfs", "/bin/true"], n=20)

    # many small files
    f.sh(f"find {files} files, names only", f"find {q(many)} -type f > /dev/null", count=files)
    f.sh(
        "find with stat (-printf size mtime)", f"find {q(many)} -printf '%s %T@\\n' > /dev/null", count=files
    )
    f.py("Python scandir + stat", lambda: walk(many), count=files)
    f.py("Python scandir + read + sha256", lambda: walk(many, True), count=files)
    f.sh("cat all files", f"find {q(many)} -type f -print0 | xargs -0 cat > /dev/null", count=files)
    f.sh("tar c | cat > /dev/null", f"tar cf - -C {q(many)} . | cat > /dev/null", nbytes=nbytes)
    tree_tar = f"{f.dir}/many.tar"
    f.sh("tar cf file", f"tar cf {q(tree_tar)} -C {q(many)} .", nbytes=nbytes)

    def py_tar():
        with tarfile.open(f"{f.dir}/py.tar", "w", format=tarfile.PAX_FORMAT) as t:
            t.add(many, ".")

    f.py("Python tarfile write", py_tar, nbytes=nbytes)
    copy = f"{f.dir}/copy"

    def gone():
        subprocess.run(["rm", "-rf", copy])

    f.sh("cp -r tree", ["cp", "-r", many, copy], before=gone, count=files)
    f.sh("cp -a tree", ["cp", "-a", many, copy], before=gone, count=files)
    f.sh("cp -al tree (hard links)", ["cp", "-al", many, copy], before=gone, count=files)
    f.sh("tar x tree", f"mkdir {q(copy)} && tar xf {q(tree_tar)} -C {q(copy)}", before=gone, count=files)

    def make():
        gone()
        shutil.copytree(many, copy)

    f.sh("rm -rf tree", ["rm", "-rf", copy], before=make, count=files)
    tsize = os.path.getsize(tree_tar)
    for tool in ("gzip -1", "gzip -6", "zstd -1", "zstd -3", "zstd -3 -T2"):
        f.sh(
            f"{tool} of the tree's tar ({tsize // 1000000} MB)",
            f"{tool} -c {q(tree_tar)} | cat > {q(f.dir)}/z",
            nbytes=tsize,
        )
        print(f"    ratio {tsize / os.path.getsize(f.dir + '/z'):.2f}", file=sys.stderr)
    with open(tree_tar, "rb") as t:
        data = t.read(64 << 20)
    for level in (1, 6):
        f.py(
            f"Python zlib level {level}, 64 MiB of the tree",
            lambda level=level: zlib.compress(data, level),
            nbytes=len(data),
        )

    # one big file
    buf = os.urandom(256 << 20)
    f.py("hashlib.sha256, in memory", lambda: hashlib.sha256(buf).digest(), nbytes=len(buf))
    f.py("hashlib.blake2b, in memory", lambda: hashlib.blake2b(buf).digest(), nbytes=len(buf))
    f.sh("openssl dgst -sha256, 1 blob", f"openssl dgst -sha256 {q(blob)}", nbytes=bsize)
    f.sh(
        "openssl dgst -sha256, 2 at once",
        f"openssl dgst -sha256 {q(blob)} & openssl dgst -sha256 {q(blob)}; wait",
        nbytes=2 * bsize,
    )
    f.sh(
        "cp blob",
        ["cp", blob, f"{f.dir}/blob"],
        nbytes=bsize,
        before=lambda: subprocess.run(["rm", "-f", f"{f.dir}/blob"]),
    )
    f.sh(
        "cp blob + fsync",
        f"dd if={q(blob)} of={q(f.dir)}/blob bs=1M conv=fsync status=none",
        nbytes=bsize,
        before=lambda: subprocess.run(["rm", "-f", f"{f.dir}/blob"]),
    )
    part = min(bsize, 256 << 20)
    for tool in ("gzip -1", "gzip -6", "zstd -1", "zstd -3"):
        f.sh(f"{tool} of random data", f"head -c {part} {q(blob)} | {tool} -c | cat > /dev/null", nbytes=part)
    with open(blob, "rb") as b:
        digest = hashlib.file_digest(b, "sha256").hexdigest()
    f.py(
        "HTTP PUT of the blob to the registry",
        lambda: put_blob(ctx, blob, digest),
        nbytes=bsize,
        before=ctx.clear_sink,
    )
    ctx.clear_sink()

    def small_fsync():
        for i in range(50):
            with open(f"{f.dir}/s{i}", "wb") as s:
                s.write(b"x" * 4096)
                os.fsync(s.fileno())

    f.py("50 x (write 4 KiB + fsync)", small_fsync, count=50, unit="fsync")

    # pull of the Debian base
    man = regutil.get_manifest(ctx.base, "debpy", "1")
    url = f"http://{ctx.base}/v2/debpy/blobs/{man['layers'][0]['digest']}"
    fetch = (
        f"{q(py)} -c 'import urllib.request,shutil,sys; "
        f"shutil.copyfileobj(urllib.request.urlopen(sys.argv[1]),sys.stdout.buffer,1<<20)' {url}"
    )
    gz = man["layers"][0]["size"]
    f.sh(f"GET Debian layer ({gz // 1000000} MB gz)", f"{fetch} > /dev/null", nbytes=gz)
    f.sh("GET | gzip -dc", f"{fetch} | gzip -dc > /dev/null", nbytes=gz)
    f.sh(
        "GET | gzip -dc | tar x",
        f"mkdir {q(copy)} && {fetch} | gzip -dc | tar x -C {q(copy)}",
        nbytes=gz,
        before=gone,
    )
    f.py("GET manifest", lambda: regutil.get_manifest(ctx.base, "debpy", "1"), n=10)
    shutil.rmtree(f.dir, ignore_errors=True)
    return f.out
