"""Reading archives of images: OCI image layouts and what ``docker save`` writes, as a tar or a directory.

A tar comes as a stream, and what a file is for stands in it last as likely as first. So every file goes
into the content store under the digest of its bytes, which is what names it in most archives anyway; what
turns out not to be needed is taken out again. Nothing is ever written under a name that the archive chooses.
"""

from __future__ import annotations

import os
import posixpath
import stat
import sys
from collections.abc import Iterator

from buildkit_py.archive import compression
from buildkit_py.archive import member as kinds
from buildkit_py.archive.untar import TarReader
from buildkit_py.content.store import ContentStore
from buildkit_py.digest import Digest, hasher, is_valid
from buildkit_py.errors import ImageError, NotFoundError, UsageError
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Protocol

MAX_FILES = 100_000
_MAX_DOCUMENT = 4 << 20
_CHUNK = 1 << 20
_HEADERS = 1 << 16
"""Bytes that are read at a time where most are passed over."""
_MAX_LINKS = 10


class Stored(NamedTuple):
    digest: Digest
    size: int


class Archive(Protocol):
    def find(self, path: str) -> Stored | None:
        """The file at a path of the archive, in the content store from then on; None: it has none."""
        ...

    def keep(self, digests: set[Digest]) -> None:
        """Take out of the content store again what this archive brought, but for these."""
        ...


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class TarArchive:
    """A tar that was read into the content store whole. ``stream``: compressed or not."""

    def __init__(self, content: ContentStore, stream: Readable) -> None:
        self._content = content
        self._files: dict[str, Stored] = {}
        self._links: dict[str, str] = {}
        self._brought: set[Digest] = set()
        try:
            self._read(stream)
        except BaseException:
            self.keep(set())
            raise

    def _read(self, stream: Readable) -> None:
        head, whole = compression.peek(stream)
        if not head:
            raise ImageError("the archive is empty")
        tar = compression.decompressed(whole, compression.detect(head))
        reader = TarReader(tar.read)
        for count, member in enumerate(reader):
            if count >= MAX_FILES:
                raise ImageError(f"the archive has more than {MAX_FILES} files; archives of images have few")
            path = _clean(member.path)
            if member.kind == kinds.REGULAR:
                _refuse_sparse(reader, path)
                self._files[path] = self._store(reader)
                self._links.pop(path, None)
            elif member.kind == kinds.SYMLINK:
                self._links[path] = _clean(posixpath.join(posixpath.dirname(path), member.target))
            elif member.kind == kinds.HARD_LINK:
                self._links[path] = _clean(member.target)

    def _store(self, reader: TarReader) -> Stored:
        with self._content.writer() as writer:
            while data := reader.read(_CHUNK):
                writer.write(data)
            digest = writer.digest()
            if not self._content.hold(digest) or self._content.size(digest) != writer.size:
                self._brought.add(writer.commit())
            return Stored(digest, writer.size)

    def find(self, path: str) -> Stored | None:
        path = _clean(path)
        for _ in range(_MAX_LINKS):
            if path not in self._links:
                return self._files.get(path)
            path = self._links[path]
        return None

    def keep(self, digests: set[Digest]) -> None:
        for digest in self._brought - digests:
            self._content.delete(digest)


class DirectoryArchive:
    """A directory; a file is taken into the content store when it is asked for. Links are not followed."""

    def __init__(self, content: ContentStore, root: str) -> None:
        self._content = content
        self._root = root
        self._brought: set[Digest] = set()

    def find(self, path: str) -> Stored | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *parents, name = _clean(path).split("/")
            for part in parents:
                inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = inner
            fd = os.open(name, flags, dir_fd=folder)
        except OSError:
            return None
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return self._store(fd)

    def _store(self, fd: int) -> Stored | None:
        with open(fd, "rb", buffering=0) as file, self._content.writer() as writer:
            try:
                while data := file.read(_CHUNK):
                    writer.write(data)
            except OSError:
                return None
            digest = writer.digest()
            if not self._content.hold(digest) or self._content.size(digest) != writer.size:
                self._brought.add(writer.commit())
            return Stored(digest, writer.size)

    def keep(self, digests: set[Digest]) -> None:
        for digest in self._brought - digests:
            self._content.delete(digest)


class TarInPlace:
    """An uncompressed tar in a file. Only its headers are read; a file is taken into the content store when
    it is asked for, or read where it lies. To be closed."""

    def __init__(self, content: ContentStore, fd: int) -> None:
        """``fd`` is ours from now on. Raises ImageError."""
        self._content = content
        self._fd = fd
        self._files: dict[str, tuple[int, int]] = {}
        self._brought: set[Digest] = set()
        try:
            self._read_headers()
        except BaseException:
            self.close()
            raise

    def _read_headers(self) -> None:
        end = os.fstat(self._fd).st_size
        os.lseek(self._fd, 0, os.SEEK_SET)
        reader = TarReader(
            lambda size: os.read(self._fd, min(size, _HEADERS)),
            lambda count: os.lseek(self._fd, count, os.SEEK_CUR),
        )
        for count, member in enumerate(reader):
            if count >= MAX_FILES:
                raise ImageError(f"the archive has more than {MAX_FILES} files; archives of caches have few")
            if member.kind == kinds.REGULAR:
                _refuse_sparse(reader, member.path)
                start = os.lseek(self._fd, 0, os.SEEK_CUR) - reader.buffered
                if start + member.size > end:
                    raise ImageError("the archive ends in the middle of a file")
                self._files[_clean(member.path)] = (start, member.size)

    def find(self, path: str) -> Stored | None:
        place = self._files.get(_clean(path))
        if place is None:
            return None
        with self._content.writer() as writer:
            for chunk in self._chunks(*place):
                writer.write(chunk)
            digest = writer.digest()
            if not self._content.hold(digest) or self._content.size(digest) != writer.size:
                self._brought.add(writer.commit())
            return Stored(digest, writer.size)

    def blob(self, digest: Digest, size: int) -> BlobInPlace | None:
        """A blob of an OCI layout, where it lies; None where the archive has it not."""
        place = self._files.get(f"blobs/sha256/{digest[7:]}")
        return None if place is None or place[1] != size else BlobInPlace(os.dup(self._fd), *place, digest)

    def _chunks(self, start: int, size: int) -> Iterator[bytes]:
        end = start + size
        while start < end:
            chunk = os.pread(self._fd, min(_CHUNK, end - start), start)
            if not chunk:
                raise ImageError("the archive was cut off while it was read")
            start += len(chunk)
            yield chunk

    def keep(self, digests: set[Digest]) -> None:
        for digest in self._brought - digests:
            self._content.delete(digest)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class BlobInPlace:
    """A file or a part of one, read once from its beginning to its end. A context manager."""

    def __init__(self, fd: int, start: int, size: int, digest: Digest) -> None:
        """``fd`` is ours from now on."""
        self._fd = fd
        self._at = start
        self._end = start + size
        self._digest = digest
        self._hash = hasher()()

    def read(self, size: int = _CHUNK, /) -> bytes:
        """``b""`` at the end. Raises ImageError there where this is not the blob."""
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        self._hash.update(data)
        if not data and "sha256:" + self._hash.hexdigest() != self._digest:
            raise ImageError(f"the blob {self._digest} is damaged")
        return data

    def __enter__(self) -> BlobInPlace:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def in_place(content: ContentStore, path: str) -> TarInPlace | None:
    """The archive at a path; None for what is no uncompressed tar in a file. Raises as opened()."""
    if not os.path.isfile(path):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}") from e
    if not compression.is_tar(os.pread(fd, 512, 0)):
        os.close(fd)
        return None
    return TarInPlace(content, fd)


def opened(content: ContentStore, path: str) -> Archive:
    """The archive at a path, or on standard input (``-``).

    Raises UsageError where it cannot be read, ImageError for a bad one.
    """
    if path == "-":
        return TarArchive(content, sys.stdin.buffer)
    if os.path.isdir(path):
        return DirectoryArchive(content, path)
    try:
        file = open(path, "rb", buffering=0)
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}") from e
    with file:
        return TarArchive(content, file)


def document(archive: Archive, content: ContentStore, path: str) -> bytes | None:
    """A small file of the archive; None where it has none. Raises ImageError for one that is too big."""
    stored = archive.find(path)
    if stored is None:
        return None
    if stored.size > _MAX_DOCUMENT:
        raise ImageError(f"{path} in the archive has {stored.size} bytes; the limit is {_MAX_DOCUMENT}")
    return content.read(stored.digest)


def blob(archive: Archive, content: ContentStore, digest: str) -> bytes:
    """A document of an OCI layout by its digest. Raises ImageError where the archive lacks it."""
    require(archive, content, digest)
    try:
        size = content.size(Digest(digest))
        if size > _MAX_DOCUMENT:
            raise ImageError(f"the document {digest} has {size} bytes; the limit is {_MAX_DOCUMENT}")
        return content.read(Digest(digest))
    except NotFoundError as e:
        raise ImageError(f"the archive lacks the document {digest}") from e


def require(archive: Archive, content: ContentStore, digest: str, size: int | None = None) -> None:
    """See to it that a blob of an OCI layout is in the content store. Raises ImageError."""
    if not is_valid(digest):
        raise ImageError(f"not a sha256 digest: {digest[:100]!r}")
    if not content.hold(Digest(digest)):
        stored = archive.find(f"blobs/sha256/{digest[7:]}")
        if stored is None:
            raise ImageError(f"the archive lacks the blob {digest}")
        if stored.digest != digest:
            raise ImageError(f"the blob {digest} of the archive is damaged: its digest is {stored.digest}")
    if size is not None and content.size(Digest(digest)) != size:
        raise ImageError(f"the blob {digest} has {content.size(Digest(digest))} bytes, not {size}")


def has_blob(archive: Archive, content: ContentStore, digest: str) -> bool:
    """Whether a blob can be had: indexes name images of platforms that an archive may leave out."""
    return is_valid(digest) and (
        content.hold(Digest(digest)) or archive.find(f"blobs/sha256/{digest[7:]}") is not None
    )


def _clean(path: str) -> str:
    """A path relative to the archive's root; ``..`` cannot lead out of it."""
    return posixpath.normpath("/" + path).lstrip("/")


def _refuse_sparse(reader: TarReader, path: str) -> None:
    # A few bytes could promise more zeros than the store has room for, and no tool writes blobs so.
    if reader.is_sparse:
        raise ImageError(f"the archive holds {path} as a sparse file: pack it again without them")
