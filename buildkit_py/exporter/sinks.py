"""Where an OCI image layout (OCI image-layout.md) is written: one tar, or a directory.

A layer streams straight to its place: its name and size are known when it has been written. A blob that is
there already is not kept twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from buildkit_py import digest as digests
from buildkit_py.archive import tar
from buildkit_py.archive.member import DIRECTORY, Member
from buildkit_py.errors import UsageError
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.typed import Any, Protocol

Fill = Callable[[Callable[[bytes], object]], LayerBlob]
"""Writes a blob to what it is given; tells its digest and size."""
_BLOCK = 512
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_LARGEST_OCTAL = 0o77777777777


class Sink(Protocol):
    """Paths are relative to the layout; each comes once."""

    def folder(self, path: str) -> None: ...

    def file(self, path: str, data: bytes) -> None: ...

    def blob(self, fill: Fill) -> LayerBlob: ...

    def index(self, data: bytes) -> None:
        """The layout's index.json."""
        ...

    def close(self) -> None: ...


class TarSink:
    """``fd`` must be seekable, and stays open. The same files give the same bytes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._blobs: set[str] = set()

    def folder(self, path: str) -> None:
        self._put(tar.encode(Member(path, DIRECTORY, 0o755)))

    def file(self, path: str, data: bytes) -> None:
        self._put(_header(path, len(data)) + data + bytes(-len(data) % _BLOCK))

    def blob(self, fill: Fill) -> LayerBlob:
        start = self._put(bytes(_BLOCK))
        blob = fill(self._put)
        end = os.lseek(self._fd, 0, os.SEEK_CUR)
        if end - start - _BLOCK != blob.size:
            raise AssertionError(f"a blob of {blob.size} bytes came with {end - start - _BLOCK}")
        if blob.digest in self._blobs:
            os.lseek(self._fd, start, os.SEEK_SET)
            os.ftruncate(self._fd, start)
            return blob
        os.pwrite(self._fd, _header(f"blobs/sha256/{blob.digest[7:]}", blob.size), start)
        self._put(bytes(-blob.size % _BLOCK))
        self._blobs.add(blob.digest)
        return blob

    def index(self, data: bytes) -> None:
        self.file("index.json", data)

    def close(self) -> None:
        self._put(tar.EMPTY)

    def _put(self, data: bytes) -> int:
        """Append; return where it begins."""
        start = os.lseek(self._fd, 0, os.SEEK_CUR)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        return start


def _header(path: str, size: int) -> bytes:
    """One block, whatever the size: beyond 8 GiB as a base-256 number, which every reader takes."""
    if size <= _LARGEST_OCTAL:
        return tar.encode(Member(path, size=size))
    block = bytearray(tar.encode(Member(path)))
    block[_SIZE] = b"\x80" + size.to_bytes(11, "big")
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


class FolderSink:
    """A directory, made where missing. Each file appears whole; index.json comes last.

    What the directory holds stays: an image of another name keeps its entry in index.json. Two that write to
    one directory at once may lose an entry, but no blob.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as e:
            raise UsageError(f"cannot use {path} as a directory: {e.strerror}") from e

    def folder(self, path: str) -> None:
        os.makedirs(os.path.join(self._path, path), exist_ok=True)

    def file(self, path: str, data: bytes) -> None:
        fd, staged = self._stage()
        try:
            with open(fd, "wb") as file:
                file.write(data)
            os.rename(staged, os.path.join(self._path, path))
        except BaseException:
            os.unlink(staged)
            raise

    def blob(self, fill: Fill) -> LayerBlob:
        fd, staged = self._stage()
        try:
            with open(fd, "wb") as file:
                blob = fill(file.write)
            os.rename(staged, os.path.join(self._path, "blobs/sha256", blob.digest[7:]))
        except BaseException:
            os.unlink(staged)
            raise
        return blob

    def index(self, data: bytes) -> None:
        document = json.loads(data)
        names = {_name(entry) for entry in document["manifests"]}
        digest = {entry["digest"] for entry in document["manifests"]}
        kept = [
            entry
            for entry in self._present()
            if _name(entry) not in names and (_name(entry) or entry["digest"] not in digest)
        ]
        document["manifests"] = kept + document["manifests"]
        self.file("index.json", digests.canonical(document))

    def close(self) -> None:
        pass

    def _present(self) -> list[dict[str, Any]]:
        path = os.path.join(self._path, "index.json")
        try:
            with open(path, "rb") as file:
                entries = json.loads(file.read())["manifests"]
            return [entry for entry in entries if isinstance(entry["digest"], str)]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as e:
            raise UsageError(f"{path} is no index of an image layout", hint="name another directory") from e

    def _stage(self) -> tuple[int, str]:
        path = os.path.join(self._path, f".{os.urandom(6).hex()}")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path


def _name(entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations") or {}
    return str(annotations.get("io.containerd.image.name") or "")
