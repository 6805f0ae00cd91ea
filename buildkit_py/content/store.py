"""Blobs by digest: configs, manifests, compressed layers.

On disk, below the store's root::

    blobs/sha256/<hex>     a finished blob; its bytes have this digest
    staging/<random>       a blob being written; renamed into blobs/ when its digest is known

A blob appears by rename(2), whole or not at all, and never changes afterwards, so any number of processes
read and write without a lock; two that write the same blob replace it by itself. What a crash leaves is a
file in staging/, which ``sweep`` removes once it is a day old.

Nothing is synced. Measured on ext4, an fsync is 2 to 30 ms for a small blob, several times the cost
of the write; a power cut can leave a blob that is too short. Whoever reads a blob checks it: ``read``
by itself, the readers of layers through their diff ids. A damaged blob counts as missing and is
fetched or made again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from types import TracebackType

from buildkit_py.digest import Digest, hasher, is_valid, of_bytes
from buildkit_py.errors import NotFoundError, StoreError
from buildkit_py.typed import BinaryIO

VERIFIED_SIZE = 4 << 20
"""Blobs up to this size (bytes) are hashed when they are read whole: 2 ms at most."""
_STALE = 24 * 3600.0
"""Age in seconds after which a file in staging/ belongs to no living writer."""


class BlobWriter:
    """A blob being written. A context manager: what is not committed is removed at its end.

    ``hashing=False``: the caller verifies the bytes itself and names the digest at commit.
    """

    def __init__(self, store: ContentStore, *, hashing: bool = True) -> None:
        self._store = store
        self._hash = hasher()() if hashing else None
        self._fd, self._path = store._stage()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Append data. Raises StoreError where the disk is full."""
        view = memoryview(data)
        if self._hash is not None:
            self._hash.update(view)
        total = len(view)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as e:
            raise _explained(e, self._path) from e
        self.size += total
        return total

    def digest(self) -> Digest:
        """Of what has been written so far."""
        assert self._hash is not None
        return Digest("sha256:" + self._hash.hexdigest())

    def commit(self, expected: Digest | None = None) -> Digest:
        """Give the blob its place. Raises StoreError where it isn't the expected one; it is then dropped."""
        digest = expected if self._hash is None and expected is not None else self.digest()
        if expected is not None and digest != expected:
            self.discard()
            raise StoreError(f"the data has digest {digest}, not {expected} as it should")
        try:
            os.close(self._fd)
            self._fd = -1
            self._store._place(self._path, digest)
            self._path = ""
        except OSError as e:
            raise _explained(e, self._path) from e
        return digest

    def reader(self) -> int:
        """Another descriptor of the file, for os.pread while it grows and after it got its place."""
        return os.dup(self._fd)

    def abandon(self) -> None:
        """Remove the file though another thread may still write to it: its commit will fail."""
        if self._path:
            _unlink(self._path)

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._path:
            _unlink(self._path)
            self._path = ""

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class ContentStore:
    """The blobs below ``root``. Cheap to make: no directory is touched before the first write."""

    def __init__(self, root: str) -> None:
        self._blobs = os.path.join(root, "blobs", "sha256")
        self._staging = os.path.join(root, "staging")

    def path(self, digest: Digest) -> str:
        """Where the blob is or would be. Raises StoreError for a malformed digest."""
        if not is_valid(digest):
            raise StoreError(f"not a sha256 digest: {digest[:100]!r}")
        return os.path.join(self._blobs, digest[7:])

    def has(self, digest: Digest) -> bool:
        return os.path.exists(self.path(digest))

    def hold(self, digest: Digest) -> bool:
        """As has(), for who means to use the blob before a row names it: delete_old() spares it then."""
        path = self.path(digest)
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        except OSError:
            return os.path.exists(path)
        return True

    def size(self, digest: Digest) -> int:
        """In bytes. Raises NotFoundError."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError as e:
            raise _missing(digest) from e

    def read(self, digest: Digest) -> bytes:
        """The whole blob. Raises NotFoundError where it is missing or damaged (it is then removed)."""
        with self.open(digest) as f:
            data = f.read()
        if len(data) <= VERIFIED_SIZE and of_bytes(data) != digest:
            self.delete(digest)
            raise NotFoundError(f"blob {digest} was damaged and has been removed from the store")
        return data

    def open(self, digest: Digest) -> BinaryIO:
        """The blob as an unbuffered file; its reader verifies. Raises NotFoundError."""
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError as e:
            raise _missing(digest) from e
        except OSError as e:
            raise _explained(e, self.path(digest)) from e

    def write(self, data: bytes) -> Digest:
        digest = of_bytes(data)
        if not self.hold(digest) or self.size(digest) != len(data):
            with self.writer() as writer:
                writer.write(data)
                writer.commit()
        return digest

    def writer(self, *, hashing: bool = True) -> BlobWriter:
        return BlobWriter(self, hashing=hashing)

    def delete(self, digest: Digest) -> int:
        """Remove a blob; return the bytes freed, 0 where it wasn't there."""
        path = self.path(digest)
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        return size

    def delete_old(self, digest: Digest, before: float) -> int:
        """As delete(), but not where somebody held the blob or wrote it since ``before`` (seconds since
        the epoch): it is taken aside first, so that who asks meanwhile finds none, and writes it again."""
        path, aside = self.path(digest), os.path.join(self._staging, os.urandom(12).hex())
        os.makedirs(self._staging, mode=0o700, exist_ok=True)
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return 0
        st = os.stat(aside)
        if st.st_mtime >= before:
            os.rename(aside, path)
            return 0
        os.unlink(aside)
        return st.st_size

    def digests(self) -> Iterator[Digest]:
        """Every blob, in no order."""
        try:
            names = os.scandir(self._blobs)
        except FileNotFoundError:
            return
        with names:
            for entry in names:
                digest = Digest("sha256:" + entry.name)
                if is_valid(digest):
                    yield digest

    def sweep(self, now: float) -> int:
        """Remove what dead writers left in staging/; return the bytes freed.

        ``now``: seconds since the epoch.
        """
        freed = 0
        try:
            entries = list(os.scandir(self._staging))
        except FileNotFoundError:
            return 0
        for entry in entries:
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if entry.is_file(follow_symlinks=False) and now - stat.st_mtime > _STALE:
                _unlink(entry.path)
                freed += stat.st_size
        return freed

    def stage(self) -> tuple[int, str]:
        """A new file in staging/, open for reading and writing, for an archive that is made here before it
        leaves: (descriptor, path). The caller removes it."""
        return self._stage()

    def _stage(self) -> tuple[int, str]:
        path = os.path.join(self._staging, os.urandom(12).hex())
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                return os.open(path, flags, 0o600), path
            except FileNotFoundError:
                os.makedirs(self._staging, mode=0o700, exist_ok=True)
                return os.open(path, flags, 0o600), path
        except OSError as e:
            raise _explained(e, path) from e

    def _place(self, staged: str, digest: Digest) -> None:
        try:
            os.rename(staged, self.path(digest))
        except FileNotFoundError:
            os.makedirs(self._blobs, mode=0o700, exist_ok=True)
            os.rename(staged, self.path(digest))


def _missing(digest: Digest) -> NotFoundError:
    return NotFoundError(f"blob {digest} is not in the store")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _explained(error: OSError, path: str) -> StoreError:
    """What a person can do about an OSError of the store's file system."""
    hints = {
        errno.ENOSPC: "free some space, run `pybuild prune -af`, or keep the store elsewhere (PYBUILD_ROOT)",
        errno.EDQUOT: "your quota is used up: free some space, or keep the store elsewhere (PYBUILD_ROOT)",
        errno.EROFS: "the file system is read-only: keep the store elsewhere (PYBUILD_ROOT)",
        errno.EACCES: "the store belongs to somebody else: correct its owner, or set PYBUILD_ROOT",
    }
    what = os.strerror(error.errno) if error.errno else str(error)
    return StoreError(f"cannot write to the store: {path}: {what}", hint=hints.get(error.errno or 0, ""))
