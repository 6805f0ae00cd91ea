"""An image as a whole: its config and the tree that its layers make, read by nobody's code but this file's.

Archives (``type=oci`` or ``type=docker``), unpacked OCI layouts and plain tars are read; the layers are
replayed by the rules of the OCI image specification (layer.md): whiteouts, opaque directories, hard links.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import zstandard


class Entry(NamedTuple):
    """One file. ``kind`` is a letter as in ``ls -l``."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    sha256: str
    target: str
    device: tuple[int, int]
    xattrs: tuple[tuple[str, str], ...]
    mtime: float

    def without_times(self) -> Entry:
        return self._replace(mtime=0.0)


Tree = dict[str, Entry]
KINDS = {
    tarfile.REGTYPE: "-",
    tarfile.AREGTYPE: "-",
    tarfile.DIRTYPE: "d",
    tarfile.SYMTYPE: "l",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.FIFOTYPE: "p",
}


class Image(NamedTuple):
    config: dict[str, Any]
    tree: Tree
    layers: int
    manifest: dict[str, Any]


def read_archive(path: Path) -> Image:
    """An OCI or a docker archive, told by what is in it."""
    with tarfile.open(path) as tar:
        names = {member.name.removeprefix("./"): member for member in tar if member.isreg()}

        def read(name: str) -> bytes:
            file = tar.extractfile(names[name])
            assert file, name
            return file.read()

        if "index.json" in names:
            return _read_oci(read)
        return _read_docker(read)


def read_layout(folder: Path) -> Image:
    return _read_oci(lambda name: (folder / name).read_bytes())


def read_registry(get: Callable[[str], bytes], repository: str, tag: str) -> Image:
    """``get`` fetches a path of the registry, as Registry.get does."""
    manifest = json.loads(get(f"/v2/{repository}/manifests/{tag}"))
    if "manifests" in manifest:
        manifest = json.loads(get(f"/v2/{repository}/manifests/{manifest['manifests'][0]['digest']}"))
    return _assemble(manifest, lambda digest: get(f"/v2/{repository}/blobs/{digest}"))


def _read_oci(read: Callable[[str], bytes]) -> Image:
    def blob(digest: str) -> bytes:
        algorithm, _, value = digest.partition(":")
        return read(f"blobs/{algorithm}/{value}")

    document = json.loads(read("index.json"))
    while "manifests" in document:
        document = json.loads(blob(document["manifests"][0]["digest"]))
    return _assemble(document, blob)


def _read_docker(read: Callable[[str], bytes]) -> Image:
    manifest = json.loads(read("manifest.json"))[0]
    config = json.loads(read(manifest["Config"]))
    return _replay(config, [read(name) for name in manifest["Layers"]], manifest)


def _assemble(manifest: dict[str, Any], blob: Callable[[str], bytes]) -> Image:
    """Every digest and size is checked on the way."""
    documents = []
    for descriptor in [manifest["config"], *manifest["layers"]]:
        data = blob(descriptor["digest"])
        assert len(data) == descriptor["size"], descriptor
        assert "sha256:" + hashlib.sha256(data).hexdigest() == descriptor["digest"], descriptor
        documents.append(data)
    return _replay(json.loads(documents[0]), documents[1:], manifest)


def _replay(config: dict[str, Any], layers: list[bytes], manifest: dict[str, Any]) -> Image:
    diff_ids = config["rootfs"]["diff_ids"]
    assert len(diff_ids) == len(layers)
    tree: Tree = {}
    for data, diff_id in zip(layers, diff_ids, strict=True):
        plain = uncompressed(data)
        assert "sha256:" + hashlib.sha256(plain).hexdigest() == diff_id
        apply(tree, io.BytesIO(plain))
    filled = [entry for entry in config.get("history", []) if not entry.get("empty_layer")]
    assert not config.get("history") or len(filled) == len(layers)
    return Image(config, tree, len(layers), manifest)


def uncompressed(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
            return bytes(reader.read())
    return data


def read_tar(path: Path) -> Tree:
    tree: Tree = {}
    with path.open("rb") as file:
        apply(tree, file)
    return tree


def apply(tree: Tree, layer: IO[bytes]) -> None:
    """Lay one uncompressed layer over ``tree``."""
    below = frozenset(tree)
    with tarfile.open(fileobj=layer) as tar:
        for member in tar:
            path = os.path.normpath("/" + member.name)
            folder, name = os.path.split(path)
            if name == ".wh..wh..opq":
                for old in [p for p in tree if p in below and p.startswith(folder.rstrip("/") + "/")]:
                    del tree[old]
            elif name.startswith(".wh."):
                _remove(tree, os.path.join(folder, name[4:]))
            elif member.islnk():
                tree[path] = tree[os.path.normpath("/" + member.linkname)]
            else:
                if not member.isdir():
                    _remove(tree, path)
                tree[path] = _entry(tar, member)


def _remove(tree: Tree, path: str) -> None:
    for old in [p for p in tree if p == path or p.startswith(path + "/")]:
        del tree[old]


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    data = b""
    if member.isreg():
        file = tar.extractfile(member)
        assert file
        data = file.read()
    prefix = "SCHILY.xattr."
    xattrs = {
        key.removeprefix(prefix): value for key, value in member.pax_headers.items() if key.startswith(prefix)
    }
    device = (
        (member.devmajor, member.devminor) if member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE) else (0, 0)
    )
    return Entry(
        KINDS[member.type],
        member.mode & 0o7777,
        member.uid,
        member.gid,
        len(data),
        hashlib.sha256(data).hexdigest() if member.isreg() else "",
        member.linkname if member.issym() else "",
        device,
        tuple(sorted(xattrs.items())),
        float(member.mtime),
    )


def differences(one: Tree, other: Tree, names: tuple[str, str] = ("ours", "theirs")) -> dict[str, str]:
    """Path to what differs; times are not compared."""
    found = {}
    for path in sorted(one.keys() | other.keys()):
        a, b = one.get(path), other.get(path)
        if a is None or b is None:
            found[path] = f"only in {names[1] if a is None else names[0]}"
        elif a.without_times() != b.without_times():
            fields = [
                f"{field} {getattr(a, field)!r} / {getattr(b, field)!r}"
                for field in Entry._fields
                if field != "mtime" and getattr(a, field) != getattr(b, field)
            ]
            found[path] = ", ".join(fields)
    return found
