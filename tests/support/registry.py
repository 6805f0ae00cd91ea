"""A real registry: Debian's docker-registry on a free port of the loopback interface."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.program import REPOSITORY

CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: "{data}"}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error, accesslog: {{disabled: true}}}}
"""
SETTINGS = """\
[registry."docker.io"]
mirrors = ["{address}"]

[registry."{address}"]
http = true
"""
# As containers-registries.conf(5) has it, for skopeo, podman and buildah.
CONTAINERS_CONF = """\
unqualified-search-registries = ["docker.io"]

[[registry]]
prefix = "docker.io/library"
location = "{address}/library"
insecure = true

[[registry]]
location = "{address}"
insecure = true
"""
ACCEPT = ", ".join(
    [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ]
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Registry:
    """``settings`` is a file for PYBUILD_REGISTRY_CONFIG that makes it docker.io's mirror."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.settings = folder / "registries.toml"
        self.settings.write_text(SETTINGS.format(address=self.address))
        self.containers_conf = folder / "registries.conf"
        self.containers_conf.write_text(CONTAINERS_CONF.format(address=self.address))
        self.config = folder / "config.yml"
        self.config.write_text(CONFIG.format(data=folder / "data", port=self.port))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = shutil.which("docker-registry", path="/usr/bin:/usr/local/bin:/bin") or "docker-registry"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [command, "serve", str(self.config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.get("/v2/")
                return
            except urllib.error.URLError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(f"http://{self.address}{path}", headers={"Accept": ACCEPT})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def manifest(self, repository: str, tag: str) -> dict[str, object]:
        loaded: dict[str, object] = json.loads(self.get(f"/v2/{repository}/manifests/{tag}"))
        return loaded

    def push_base(self, image: Path, name: str) -> None:
        """Push a folder made by scripts/base-images.sh as ``name``, e.g. library/busybox:latest."""
        script = REPOSITORY / "scripts" / "base_image.py"
        subprocess.run([sys.executable, script, "push", image, self.address, name], check=True)
