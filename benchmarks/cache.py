#!/usr/bin/env python3
"""What sharing a cache of 1 GiB takes: to and from a registry and a directory, beside buildah and skopeo.

    benchmarks/cache.py --work /var/tmp/w [--mib 1024] [--repeat 3] [--only pybuild]

Needs docker-registry; buildah and skopeo are measured where they are installed. Each line of the report is
the median of the repeats, in seconds. The cache is four layers of random bytes, so compression gains nothing.
Every import is into an empty store, and every export but "again" to an empty place. Python 3.11 standard
library only.
"""

import argparse
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAYERS = 4


class Registry:
    """Debian's docker-registry on a free port, empty."""

    def __init__(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = folder / "config.yml"
        config.write_text(
            f'version: 0.1\nstorage: {{filesystem: {{rootdirectory: "{folder}/data"}}}}\n'
            f'http: {{addr: "{self.address}"}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n'
        )
        self.settings = folder / "registries.toml"
        self.settings.write_text(
            f'[registry."docker.io"]\nmirrors = ["{self.address}"]\n'
            f'[registry."{self.address}"]\nhttp = true\n'
        )
        self.process = subprocess.Popen(["docker-registry", "serve", config], stderr=subprocess.DEVNULL)
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}/v2/").close()
                break
            except urllib.error.URLError:
                if self.process.poll() is not None:
                    sys.exit("docker-registry does not start")
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = Path(args.work).resolve()
        self.rows = {}
        self.registry = None

    def new_registry(self):
        """An empty one, with the base image."""
        if self.registry:
            self.registry.stop()
        self.registry = Registry(self.work / "registry")
        base = subprocess.run(
            [HERE.parent / "scripts" / "base-images.sh"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        push = [sys.executable, HERE.parent / "scripts" / "base_image.py", "push"]
        subprocess.run(
            [*push, f"{base}/busybox", self.registry.address, "library/busybox:latest"], check=True
        )

    def empty(self, name):
        place = self.work / name
        subprocess.run(["rm", "-rf", place], check=True)
        return place

    def timed(self, row, command, env=None):
        start = time.perf_counter()
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{shlex.join(map(str, command))}\n{done.stdout}")
        if row:
            self.rows.setdefault(row, []).append(seconds)
            print(f"  {row}: {seconds:.2f} s", file=sys.stderr, flush=True)
        return done.stdout

    def pybuild(self, row, store, *words, cached=None):
        env = {
            "PYBUILD_ROOT": str(self.work / store),
            "PYBUILD_REGISTRY_CONFIG": str(self.registry.settings),
            "BUILDKIT_PROGRESS": "plain",
        }
        told = self.timed(row, [*shlex.split(self.args.pybuild), *words], env)
        if cached is not None:
            hits = told.count(" CACHED\n")
            if (hits >= LAYERS) != cached:
                sys.exit(f"{row}: {hits} steps were cached\n{told}")
        return told

    def run(self):
        self.work.mkdir(parents=True, exist_ok=True)
        context = self.empty("context")
        context.mkdir()
        size = self.args.mib * (1 << 20) // LAYERS
        steps = "".join(f"RUN head -c {size} /dev/urandom > /f{n}\n" for n in range(LAYERS))
        (context / "Dockerfile").write_text(f"FROM busybox\n{steps}")
        try:
            for _ in range(self.args.repeat):
                if "pybuild" in self.args.only:
                    self.ours(context)
                if "peers" in self.args.only:
                    self.peers(context)
        finally:
            if self.registry:
                self.registry.stop()
        self.report()

    def ours(self, context):
        self.new_registry()
        self.empty("a")
        at = self.registry.address
        self.pybuild("", "a", "build", "-t", "x", context, cached=False)
        self.pybuild("no-op build", "a", "build", "-t", "x", context, cached=True)
        remote = f"type=registry,ref={at}/c/x:cache"
        self.pybuild("export, registry", "a", "build", "-t", "x", "--cache-to", remote, context)
        self.pybuild("export again, registry", "a", "build", "-t", "x", "--cache-to", remote, context)
        self.pybuild(
            "no-op build with --cache-from", "a", "build", "-t", "x", "--cache-from", remote, context,
            cached=True,
        )  # fmt: skip
        self.empty("b")
        self.pybuild(
            "import, registry", "b", "build", "-t", "x", "--cache-from", remote, context, cached=True
        )
        self.empty("b")
        words = ("build", "-t", f"{at}/c/y:1", "--push", "--cache-from", remote, context)
        self.pybuild("hit and push only", "b", *words, cached=True)
        self.empty("b")
        place = self.empty("cache")
        local = f"type=local,dest={place}"
        self.pybuild("export, directory", "a", "build", "-t", "x", "--cache-to", local, context)
        self.pybuild("export again, directory", "a", "build", "-t", "x", "--cache-to", local, context)
        words = ("build", "-t", "x", "--cache-from", f"type=local,src={place}", context)
        self.pybuild("import, directory", "b", *words, cached=True)
        self.empty("cache")
        self.pybuild("export, one file", "a", "cache", "export", self.work / "cache.tar")
        self.empty("b")
        self.pybuild("import, one file", "b", "cache", "import", self.work / "cache.tar")
        if "peers" in self.args.only and shutil.which("skopeo"):
            self.empty("layout")
            copy = ["skopeo", "copy", "-q", f"oci-archive:{self.work}/cache.tar", f"oci:{self.work}/layout:1"]
            self.timed("skopeo copy, one file to directory", copy)
            self.floors(at)
        for name in ("cache.tar", "b"):
            self.empty(name)

    def floors(self, at):
        """The same blobs carried by skopeo, which looks into none of them."""
        self.empty("layout")
        source = f"docker://{at}/c/y:1"
        copy = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "-q"]
        self.timed("skopeo copy, registry to directory", [*copy, source, f"oci:{self.work}/layout:1"])
        self.new_registry()
        target = f"docker://{self.registry.address}/c/y:1"
        self.timed("skopeo copy, directory to registry", [*copy, f"oci:{self.work}/layout:1", target])
        self.empty("layout")

    def peers(self, context):
        """buildah, with the same steps."""
        if not shutil.which("buildah"):
            return
        self.new_registry()
        at = self.registry.address
        (context / "Dockerfile.buildah").write_text(
            (context / "Dockerfile").read_text().replace("busybox", f"{at}/library/busybox:latest")
        )

        def buildah(row, store, *words):
            root = [f"--root={self.work}/{store}/root", f"--runroot={self.work}/{store}/run"]
            tail = ["-q", "--tls-verify=false", "-f", context / "Dockerfile.buildah", context]
            self.timed(row, ["buildah", *root, "build", "--layers", "--isolation=chroot", *words, *tail])

        for store in ("ba", "bb"):
            self.drop_buildah(store)
        buildah("", "ba", "-t", "x")
        buildah("buildah: no-op build", "ba", "-t", "x")
        buildah("buildah: export, registry", "ba", "-t", "x", f"--cache-to={at}/c/x")
        buildah("buildah: export again, registry", "ba", "-t", "x", f"--cache-to={at}/c/x")
        buildah("buildah: import, registry", "bb", "-t", "x", f"--cache-from={at}/c/x")
        for store in ("ba", "bb"):
            self.drop_buildah(store)

    def drop_buildah(self, store):
        if (self.work / store).exists():
            root = [f"--root={self.work}/{store}/root", f"--runroot={self.work}/{store}/run"]
            subprocess.run(["buildah", *root, "rm", "-a"], stdout=subprocess.DEVNULL)
            subprocess.run(["umount", "-l", f"{self.work}/{store}/root/overlay"], stderr=subprocess.DEVNULL)
        self.empty(store)

    def report(self):
        print(f"| {self.args.mib} MiB | s (median of {self.args.repeat}) |\n|---|---|")
        for row, times in self.rows.items():
            print(f"| {row} | {statistics.median(times):.2f} |")
        if self.args.json:
            Path(self.args.json).write_text(json.dumps(self.rows, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", required=True, help="a folder on a real disk, with ten times the size free")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="pybuild,peers", help="pybuild, peers or both")
    parser.add_argument("--json", help="where the samples go")
    parser.add_argument("--pybuild", default=os.environ.get("PYBUILD", "pybuild"), help="how it is called")
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
