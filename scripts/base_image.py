"""Make base images and put them into a registry, with the standard library alone.

    base_image.py pack debian LAYER.tar DIR     a tarball by mmdebstrap becomes an image
    base_image.py pack busybox /bin/busybox DIR a static busybox becomes an image
    base_image.py pack busybox PATH DIR arm64   of another architecture, with the applets of ours
    base_image.py push DIR REGISTRY NAME:TAG    e.g. 127.0.0.1:5000 library/debian:12-slim

DIR then holds layer.tar.gz, config.json and manifest.json. Deliberately none of pybuild's own code: a base
image comes from somebody else, and where pybuild reads it wrongly a test should say so.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CHUNK = 1 << 20
# The machine that ran mmdebstrap shows in these; whoever runs the image provides them.
Member = tuple[tarfile.TarInfo, IO[bytes] | None]
FOREIGN = ("etc/hostname", "etc/resolv.conf", "etc/hosts", "etc/machine-id")


class _Hashing(io.BytesIO):
    """Passes what is written on to ``out`` and keeps its SHA-256."""

    def __init__(self, out: gzip.GzipFile) -> None:
        super().__init__()
        self.out = out
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.sha256.update(data)
        return self.out.write(data)


def _debian_members(source: Path) -> Iterator[Member]:
    with tarfile.open(source) as tar:
        for member in tar:
            name = member.name.removeprefix("./").rstrip("/")
            # Device nodes can't be made by an ordinary user, and every runtime brings its own /dev.
            if name in FOREIGN or name.startswith("dev/") or name in ("", "."):
                continue
            member.name = name
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            data = tar.extractfile(member) if member.isreg() else None
            yield member, data


def _entry(name: str, kind: bytes, mode: int, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, size
    info.uname = info.gname = "root"
    return info


def _busybox_members(source: Path, lister: str) -> Iterator[Member]:
    folders = ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var", "var/tmp"]
    for name in folders:
        mode = 0o1777 if name.endswith("tmp") else 0o700 if name == "root" else 0o755
        yield _entry(name, tarfile.DIRTYPE, mode), None
    accounts = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
        "etc/group": "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nnogroup:x:65534:\n",
    }
    for name, text in accounts.items():
        yield _entry(name, tarfile.REGTYPE, 0o644, size=len(text)), io.BytesIO(text.encode())
    program = source.read_bytes()
    yield _entry("bin/busybox", tarfile.REGTYPE, 0o755, size=len(program)), io.BytesIO(program)
    applets = subprocess.run([lister, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in sorted(set(applets) - {"busybox"}):
        yield _entry(f"bin/{applet}", tarfile.LNKTYPE, 0o755, "bin/busybox"), None
    yield _entry("usr/bin/env", tarfile.SYMTYPE, 0o777, "/bin/env"), None


def pack(kind: str, source: Path, target: Path, architecture: str = "") -> None:
    lister = "busybox" if architecture else str(source)
    members = _debian_members(source) if kind == "debian" else _busybox_members(source, lister)
    command = ["bash"] if kind == "debian" else ["sh"]
    work = target.with_name(target.name + ".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    layer = work / "layer.tar.gz"
    with layer.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as squeezed:
        hashing = _Hashing(squeezed)
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT) as out:
            for member, data in members:
                out.addfile(member, data)
    config = {
        "architecture": architecture or ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": command,
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashing.sha256.hexdigest()]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": f"scripts/base_image.py pack {kind}"}],
    }
    (work / "config.json").write_text(json.dumps(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(work / "config.json", CONFIG),
        "layers": [_descriptor(layer, LAYER)],
    }
    (work / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)


def _descriptor(path: Path, media_type: str) -> dict[str, object]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return {"mediaType": media_type, "digest": "sha256:" + digest.hexdigest(), "size": path.stat().st_size}


def _request(
    registry: str, method: str, url: str, body: bytes | IO[bytes], headers: dict[str, str]
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(registry, timeout=120)
    connection.request(method, url, body, headers)
    answer = connection.getresponse()
    answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} http://{registry}{url}: {answer.status} {answer.reason}")
    return answer


def push(source: Path, registry: str, name: str) -> None:
    repository, _, tag = name.rpartition(":")
    text = (source / "manifest.json").read_bytes()
    manifest = json.loads(text)
    blobs = [(manifest["config"], source / "config.json"), (manifest["layers"][0], source / "layer.tar.gz")]
    for descriptor, path in blobs:
        answer = _request(registry, "POST", f"/v2/{repository}/blobs/uploads/", b"", {"Content-Length": "0"})
        place = urllib.parse.urlsplit(answer.getheader("Location", ""))
        query = f"{place.query}&digest={descriptor['digest']}".lstrip("&")
        with path.open("rb") as file:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor["size"])}
            _request(registry, "PUT", f"{place.path}?{query}", file, headers)
    _request(registry, "PUT", f"/v2/{repository}/manifests/{tag}", text, {"Content-Type": MANIFEST})


def main(arguments: list[str]) -> None:
    match arguments:
        case ["pack", ("debian" | "busybox") as kind, source, target, *architecture]:
            pack(kind, Path(source), Path(target), *architecture)
        case ["push", source, registry, name]:
            push(Path(source), registry, name)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    os.umask(0o022)
    main(sys.argv[1:])
