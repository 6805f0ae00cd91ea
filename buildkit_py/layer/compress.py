"""Compressing a layer's tar, and both of its digests, in one pass and two threads.

The first thread makes the tar and hashes it, the second compresses, hashes the result and writes it.
Deterministic: no time and no name in the gzip header; zstd always in its multi-threaded form, whose output
does not depend on the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from hashlib import sha256

from buildkit_py.archive.compression import Readable, decompressed, detect, peek
from buildkit_py.digest import DiffID, Digest
from buildkit_py.errors import ImageError, UsageError
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any, Literal, Protocol, cast

Method = Literal["none", "gzip", "zstd"]
COMPRESSION: dict[str, Method] = {"gzip": "gzip", "zstd": "zstd", "uncompressed": "none", "none": "none"}
"""By the names that options have for them."""
Write = Callable[[bytes], object]

_DEPTH = 8
_ZSTD_LEVEL = 3


class Compressed(NamedTuple):
    diff_id: DiffID
    digest: Digest
    """Of the compressed bytes."""
    size: int
    """Bytes, compressed."""
    uncompressed: int
    """Bytes of the tar."""


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(method: Method, level: int | None = None) -> Compressor:
    """``level`` None: ISA-L's level 1 for gzip (as small as zlib's 1 to 2, ten times as fast), 3 for zstd,
    whose 0 is that, too. gzip levels 0 to 9 are zlib's. Raises UsageError for a level that there is not."""
    if method == "gzip":
        if level is None:
            from isal import isal_zlib

            return cast(Compressor, isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31))
        if not 0 <= level <= 9:
            raise UsageError(f"gzip has no compression level {level}", hint="0 to 9")
        import zlib

        return cast(Compressor, zlib.compressobj(level, zlib.DEFLATED, 31))
    if method == "zstd":
        import zstandard

        level = level or _ZSTD_LEVEL
        if not 1 <= level <= zstandard.MAX_COMPRESSION_LEVEL:
            raise UsageError(f"zstd has no compression level {level}", hint="0 to 22")
        threads = max(1, min(len(os.sched_getaffinity(0)), 4))
        made = zstandard.ZstdCompressor(level=level, threads=threads, write_checksum=True)
        return cast(Compressor, made.compressobj())
    return _Plain()


class _Second:
    """The second thread: compresses, hashes and writes what it is given."""

    def __init__(self, method: Method, level: int | None, sink: Write) -> None:
        self._compressor = compressor(method, level)
        self._plain = method == "none"
        self._sink = sink
        self.hash = sha256()
        self.size = 0
        self._queue: deque[bytes | None] = deque()
        self._ready = threading.Semaphore(0)
        self._room = threading.Semaphore(_DEPTH)
        self._error: BaseException | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="compress")
        self._thread.start()

    def put(self, data: bytes) -> None:
        self._room.acquire()
        if self._error is not None:
            raise self._error
        self._queue.append(data)
        self._ready.release()

    def finish(self) -> None:
        self._queue.append(None)
        self._ready.release()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def give_up(self) -> None:
        self._given_up = True
        self._queue.append(None)
        self._ready.release()
        self._thread.join()

    def _emit(self, data: bytes) -> None:
        if data:
            if not self._plain:
                self.hash.update(data)
            self.size += len(data)
            self._sink(data)

    def _run(self) -> None:
        try:
            while True:
                self._ready.acquire()
                data = self._queue.popleft()
                if self._given_up:
                    return
                if data is None:
                    self._emit(self._compressor.flush())
                    return
                self._emit(self._compressor.compress(data))
                self._room.release()
        except BaseException as e:
            self._error = e
            # Whoever waits for room must wake to see the error.
            self._room.release()


def compress_layer(
    produce: Callable[[Write], object], sink: Write, method: Method = "gzip", *, level: int | None = None,
    diff_id: DiffID | None = None,
) -> Compressed:  # fmt: skip
    """Compress what ``produce(write)`` writes, and write it to ``sink`` (called in another thread).

    ``diff_id``: the tar's digest where it is known, which saves hashing it; the caller vouches for it.
    What ``produce`` or ``sink`` raises is raised.
    """
    second = _Second(method, level, sink)
    hasher: Any = sha256() if diff_id is None or method == "none" else None
    count = 0

    def write(data: bytes) -> None:
        nonlocal count
        count += len(data)
        second.put(data)
        if hasher is not None:
            hasher.update(data)

    try:
        produce(write)
    except BaseException:
        second.give_up()
        raise
    second.finish()
    tar = DiffID("sha256:" + hasher.hexdigest()) if hasher is not None else diff_id
    assert tar is not None
    digest = Digest(tar) if method == "none" else Digest("sha256:" + second.hash.hexdigest())
    return Compressed(tar, digest, second.size, count)


def decompressor(stream: Readable, media_type: str = "") -> Readable:
    """A layer blob's tar. The bytes decide, not the media type, which pushers get wrong; a type that names
    another compression than gzip, zstd or none raises ImageError, and so does damaged data when read."""
    if media_type and not media_type.endswith(("tar", "gzip", "zstd")):
        raise ImageError(f"a layer of type {media_type!r} is nothing that pybuild reads")
    head, whole = peek(stream, 6)
    return decompressed(whole, detect(head))
