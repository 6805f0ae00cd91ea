"""``type=local``: a directory, in the form of an OCI image layout (OCI image-layout.md).

blobs/sha256/<hex>   blobs, the index's config and its manifest
index.json           tag -> manifest; replaced by rename
.lock                flock(2), held alone while index.json changes

An export holds blobs/sha256 by flock(2), shared with others. Blobs that no manifest names any more are
removed by the export that has it alone, so a directory that CI keeps doesn't grow without end. Whoever reads
an older index at that moment misses a blob and builds that step.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from _thread import allocate_lock  # what threading.Lock is, without importing threading
from collections.abc import Iterator, Mapping

from buildkit_py import digest as digests
from buildkit_py.cache import shared, sharedread
from buildkit_py.cache.backends import WRITERS, Make, Services, verified
from buildkit_py.cache.shared import SharedIndex
from buildkit_py.digest import Digest
from buildkit_py.errors import ImageError, NotFoundError, StoreError, UsageError
from buildkit_py.image import assemble
from buildkit_py.image.archive import BlobInPlace
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import media, validate
from buildkit_py.typed import Any

_REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 20
_STALE = 24 * 3600.0
"""Seconds after which a half-written blob belongs to no living writer."""
_STAGED = ".new-"


class LocalBackend:
    def __init__(self, directory: str, tag: str = "latest", digest: str = "") -> None:
        self._directory = directory
        self._blobs = os.path.join(directory, "blobs", "sha256")
        self._tag = tag
        self._digest = digest
        self._use = -1
        self._lock = allocate_lock()
        self.shown = directory
        self.writers = WRITERS
        self.place = None

    def read_index(self) -> SharedIndex | None:
        what = f"the cache {self.shown}"
        digest = self._digest or self._named(what)
        if not digest:
            return None
        manifest = self._document(digest, what)
        checked = validate.decode(manifest, validate.Manifest, what)
        if checked.config.media_type != shared.CONFIG_TYPE:
            raise ImageError(
                f"{self.shown} has no cache in it", hint="pybuild reads caches that pybuild wrote"
            )
        return sharedread.decode(self._document(checked.config.digest, what), what)

    def _named(self, what: str) -> str:
        try:
            with open_file(os.path.join(self._directory, "index.json")) as f:
                data = f.read(validate.MAX_DOCUMENT + 1)
        except FileNotFoundError:
            return ""
        except OSError as e:
            raise StoreError(f"{what} cannot be read: {e.strerror}") from e
        for entry in validate.index(data, what).manifests:
            if (entry.annotations or {}).get(_REF_NAME) == self._tag:
                return entry.digest
        return ""

    def _document(self, digest: str, what: str) -> bytes:
        if not digests.is_valid(digest):
            raise ImageError(f"{what} holds {digest[:100]!r}, which is not a sha256 digest")
        with self._open(Digest(digest)) as f:
            data: bytes = f.read(validate.MAX_DOCUMENT + 1)
        if digests.of_bytes(data) != digest:
            raise ImageError(f"the blob {digest} of {self.shown} is damaged")
        return data

    def _open(self, digest: Digest) -> Any:
        try:
            return open_file(os.path.join(self._blobs, digest[7:]))
        except FileNotFoundError as e:
            raise NotFoundError(f"{self.shown} does not have the blob {digest}") from e
        except OSError as e:
            raise StoreError(f"{self.shown}: the blob {digest} cannot be read: {e.strerror}") from e

    def has(self, blob: LayerBlob) -> bool:
        self._begin()
        try:
            found = os.lstat(os.path.join(self._blobs, blob.digest[7:]))
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == blob.size

    def read_blob(self, blob: LayerBlob) -> Iterator[bytes]:
        return verified(self._chunks(blob.digest), blob, self.shown)

    def file(self, blob: LayerBlob) -> BlobInPlace | None:
        """A blob where it lies; None where it has another size. Raises NotFoundError, StoreError."""
        with self._open(blob.digest) as f:
            if os.fstat(f.fileno()).st_size != blob.size:
                return None
            return BlobInPlace(os.dup(f.fileno()), 0, blob.size, blob.digest)

    def _chunks(self, digest: Digest) -> Iterator[bytes]:
        with self._open(digest) as f:
            while chunk := f.read(_CHUNK):
                yield chunk

    def write_blob(self, make: Make) -> LayerBlob:
        self._begin()
        fd, path = self._stage()
        try:
            blob = make(lambda data: _write(fd, data))
            os.rename(path, os.path.join(self._blobs, blob.digest[7:]))
            path = ""
        except OSError as e:
            raise self._failure(e) from e
        finally:
            os.close(fd)
            if path:
                os.unlink(path)
        return blob

    def write_index(self, config: bytes, manifest: bytes) -> None:
        self._begin()
        for data in (config, manifest):
            self._put(os.path.join(self._blobs, digests.of_bytes(data)[7:]), data)
        try:
            lock = os.open(
                os.path.join(self._directory, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
        except OSError as e:
            raise self._failure(e) from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entry: Any = assemble.descriptor(media.OCI_MANIFEST, digests.of_bytes(manifest), len(manifest))
            entry["annotations"] = {_REF_NAME: self._tag}
            entries = [e for e in self._entries() if (e.get("annotations") or {}).get(_REF_NAME) != self._tag]
            self._put(os.path.join(self._directory, "oci-layout"), b'{"imageLayoutVersion":"1.0.0"}')
            self._put(os.path.join(self._directory, "index.json"), assemble.index_bytes([*entries, entry]))
            self._sweep([*entries, entry])
        finally:
            os.close(lock)

    def _begin(self) -> None:
        """Keep other exports from removing what this one relies on."""
        try:
            os.makedirs(self._blobs, exist_ok=True)
            with self._lock:
                if self._use < 0:
                    self._use = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    fcntl.flock(self._use, fcntl.LOCK_SH)
        except OSError as e:
            raise self._failure(e) from e

    def close(self) -> None:
        with self._lock:
            if self._use >= 0:
                os.close(self._use)
                self._use = -1

    def _entries(self) -> list[Any]:
        try:
            with open_file(os.path.join(self._directory, "index.json")) as f:
                data = f.read(validate.MAX_DOCUMENT + 1)
            validate.index(data, self.shown)
        except (OSError, ImageError):
            return []
        return list(json.loads(data)["manifests"])

    def _sweep(self, entries: list[Any]) -> None:
        """Remove the blobs that none of these manifests names, if all of them are understood."""
        import time

        try:
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        named: set[str] = set()
        for entry in entries:
            try:
                checked = validate.decode(self._document(entry["digest"], ""), validate.Manifest, "")
            except (ImageError, NotFoundError, StoreError):
                return
            named |= {entry["digest"], checked.config.digest, *(layer.digest for layer in checked.layers)}
        for found in os.scandir(self._blobs):
            young = time.time() - found.stat(follow_symlinks=False).st_mtime < _STALE
            if f"sha256:{found.name}" not in named and not (found.name.startswith(_STAGED) and young):
                os.unlink(found.path)

    def _put(self, path: str, data: bytes) -> None:
        fd, staged = self._stage()
        try:
            _write(fd, data)
            os.rename(staged, path)
        except OSError as e:
            os.unlink(staged)
            raise self._failure(e) from e
        finally:
            os.close(fd)

    def _stage(self) -> tuple[int, str]:
        path = os.path.join(self._blobs, _STAGED + os.urandom(8).hex())
        try:
            os.makedirs(self._blobs, exist_ok=True)
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), path
        except OSError as e:
            raise self._failure(e) from e

    def _failure(self, e: OSError) -> StoreError:
        return StoreError(f"cannot write the cache {self.shown}: {e.strerror or e}")


def open_file(path: str) -> Any:
    """For reading. A cache directory comes from anywhere: what is no regular file could block or be endless.
    Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "it is no regular file")
    return os.fdopen(fd, "rb", buffering=0)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def check(attributes: Mapping[str, str], writing: bool) -> None:
    digest = attributes.get("digest", "")
    if digest and not digests.is_valid(digest):
        raise UsageError(f"--cache-from: digest={digest} is not a digest", hint="sha256:… of a manifest")


def open(attributes: Mapping[str, str], services: Services) -> LocalBackend:
    directory = attributes.get("src") or attributes["dest"]
    return LocalBackend(
        os.path.abspath(directory), attributes.get("tag") or "latest", attributes.get("digest", "")
    )
