"""Registry helpers for bench.py: push a base image, read back and check a built one.

Nothing here belongs to any builder: images are checked by fetching manifest and
layers over HTTP and replaying the layer tars, so every builder is judged alike.
"""

import gzip
import hashlib
import json
import os
import subprocess
import tarfile
import threading
import urllib.request
from collections import namedtuple

Entry = namedtuple("Entry", "type mode uid gid size sha256 link mtime")
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CHUNK = 1 << 20


def _http(method, url, data=None, headers=None):
    req = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    return urllib.request.urlopen(req, timeout=300)


def upload_blob(reg, repo, path):
    """Upload the file at path; return its descriptor (digest, size)."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(CHUNK):
            digest.update(block)
    size = os.path.getsize(path)
    name = "sha256:" + digest.hexdigest()
    with _http("POST", f"http://{reg}/v2/{repo}/blobs/uploads/", b"") as r:
        loc = r.headers["Location"]
    sep = "&" if "?" in loc else "?"
    with open(path, "rb") as f:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        _http("PUT", f"{loc}{sep}digest={name}", f, headers).close()
    return {"digest": name, "size": size}


def push_base(reg, repo, tag, layer_tar, scratch, config=None):
    """Push a one-layer image made from the uncompressed tar file layer_tar."""
    diff_id = hashlib.sha256()
    gz = os.path.join(scratch, "layer.tar.gz")
    with open(layer_tar, "rb") as src, open(gz, "wb") as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0) as dst:
            while block := src.read(CHUNK):
                diff_id.update(block)
                dst.write(block)
    layer = upload_blob(reg, repo, gz)
    layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    os.unlink(gz)
    env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    cfg = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": env, "Cmd": ["/bin/sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff_id.hexdigest()]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "bench base"}],
    }
    cfg_path = os.path.join(scratch, "config.json")
    with open(cfg_path, "w") as f:
        json.dump(cfg, f)
    conf = upload_blob(reg, repo, cfg_path)
    conf["mediaType"] = "application/vnd.docker.container.image.v1+json"
    os.unlink(cfg_path)
    man = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": conf, "layers": [layer]}
    _http(
        "PUT",
        f"http://{reg}/v2/{repo}/manifests/{tag}",
        json.dumps(man).encode(),
        {"Content-Type": DOCKER_MANIFEST},
    ).close()
    return layer["size"]


def get_manifest(reg, repo, tag):
    accept = ", ".join([OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST])
    with _http("GET", f"http://{reg}/v2/{repo}/manifests/{tag}", headers={"Accept": accept}) as r:
        man = json.load(r)
    if "manifests" in man:
        for m in man["manifests"]:
            if m.get("platform", {}).get("architecture") in (None, "amd64"):
                return get_manifest(reg, repo, m["digest"])
        raise ValueError("no amd64 manifest in index")
    return man


class _Reader:
    """Read only: the decompressed stream of a blob, whatever its compression."""

    def __init__(self, resp):
        self.resp, self.proc = resp, None
        magic = resp.read(4)
        if magic[:2] == b"\x1f\x8b":
            cmd = ["gzip", "-dc"]
        elif magic == b"\x28\xb5\x2f\xfd":
            cmd = ["zstd", "-dc"]
        else:
            cmd = ["cat"]
        self.proc = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.error = None
        self.feeder = threading.Thread(target=self._feed, args=(magic,), daemon=True)
        self.feeder.start()
        self.diff_id = hashlib.sha256()

    def _feed(self, magic):
        try:
            with self.proc.stdin as pipe:
                pipe.write(magic)
                while block := self.resp.read(CHUNK):
                    pipe.write(block)
        except Exception as e:
            self.error = e

    def read(self, n=-1):
        data = self.proc.stdout.read(n)
        self.diff_id.update(data)
        return data

    def finish(self):
        while self.read(CHUNK):
            pass
        self.feeder.join()
        self.resp.close()
        if self.proc.wait() or self.error:
            raise ValueError(f"layer did not decompress cleanly: {self.error}")
        return "sha256:" + self.diff_id.hexdigest()


def _drop(files, path):
    prefix = path + "/"
    for p in [p for p in files if p == path or p.startswith(prefix)]:
        del files[p]


def _apply_layer(stream, files):
    tar = tarfile.open(fileobj=stream, mode="r|")
    for ti in tar:
        tar.members = []
        path = os.path.normpath("/" + ti.name).lstrip("/")
        folder, base = os.path.split(path)
        if base == ".wh..wh..opq":
            for p in [p for p in files if p.startswith(folder + "/")]:
                del files[p]
            continue
        if base.startswith(".wh."):
            _drop(files, os.path.join(folder, base[4:]))
            continue
        if ti.islnk():
            files[path] = files[os.path.normpath("/" + ti.linkname).lstrip("/")]
            continue
        digest = None
        if ti.isreg():
            h, f = hashlib.sha256(), tar.extractfile(ti)
            while block := f.read(CHUNK):
                h.update(block)
            digest = h.hexdigest()
        kind = "f" if ti.isreg() else "d" if ti.isdir() else "l" if ti.issym() else "o"
        old = files.get(path)
        if old and old.type == "d" and kind != "d":
            _drop(files, path)
        files[path] = Entry(kind, ti.mode, ti.uid, ti.gid, ti.size, digest, ti.linkname, ti.mtime)


def read_image(reg, repo, tag):
    """Return (config, {path: Entry}, manifest); checks every diff_id on the way."""
    man = get_manifest(reg, repo, tag)
    with _http("GET", f"http://{reg}/v2/{repo}/blobs/{man['config']['digest']}") as r:
        config = json.load(r)
    files = {}
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(man["layers"]):
        raise ValueError("diff_ids and layers differ in number")
    for layer, want in zip(man["layers"], diff_ids, strict=True):
        resp = _http("GET", f"http://{reg}/v2/{repo}/blobs/{layer['digest']}")
        stream = _Reader(resp)
        _apply_layer(stream, files)
        got = stream.finish()
        if got != want:
            raise ValueError(f"diff_id mismatch: {got} != {want}")
    return config, files, man
