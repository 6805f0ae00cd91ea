"""What a stream is compressed with, told by its first bytes, and reading it decompressed.

gzip (RFC 1952, any number of members; by ISA-L, three to five times as fast as zlib), bzip2, xz, zstd
(RFC 8878). Output is bounded: a bomb fills a disk, never the memory.
"""

from __future__ import annotations

from collections.abc import Callable

from buildkit_py.errors import ImageError
from buildkit_py.typed import IO, Any, Literal, Protocol, cast

Compression = Literal["none", "gzip", "bzip2", "xz", "zstd"]

_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_IN = 1 << 18
_OUT = 1 << 20
_XZ_MEMORY = 256 << 20
"""xz -9 needs 65 MiB."""
_ZSTD_WINDOW = 128 << 20
"""The largest window that the zstd program decompresses unasked."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def detect(head: bytes) -> Compression:
    """The compression of a stream that starts with ``head`` (6 bytes suffice)."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    # zstd's skippable frames: 0x184D2A50 to 0x184D2A5F, little endian.
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"
    return "none"


class Peeked:
    """A stream whose first bytes have been read already."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


def peek(stream: Readable, count: int = 512) -> tuple[bytes, Peeked]:
    """(up to count first bytes, a stream that still has them)."""
    head = b""
    while len(head) < count and (data := stream.read(count - len(head))):
        head += data
    return head, Peeked(head, stream)


class _Members:
    """Streams of the form that bz2, lzma and igzip share: one decompressor object a member."""

    def __init__(
        self,
        stream: Readable,
        name: str,
        make: Callable[[], Any],
        errors: tuple[type[Exception], ...],
    ) -> None:
        self._stream = stream
        self._name = name
        self._make = make
        self._errors = errors
        self._current: Any = None
        self._rest = b""
        self._any = False

    def _next_member(self) -> bool:
        """Start on what follows the last member; False at the end. Zeros may pad a file's end."""
        while True:
            data = self._rest or self._stream.read(_IN)
            if not data:
                return False
            self._rest = data.lstrip(b"\0") if self._any else data
            if self._rest:
                self._current = self._make()
                self._any = True
                return True

    def read(self, size: int = _OUT, /) -> bytes:
        """Up to size bytes, b"" at the end. Raises ImageError for damaged data."""
        try:
            while True:
                if self._current is None and not self._next_member():
                    return b""
                decompressor = self._current
                data = b""
                if decompressor.needs_input:
                    data = self._rest or self._stream.read(_IN)
                    self._rest = b""
                    if not data:
                        raise ImageError(f"the {self._name} data ends too early")
                out: bytes = decompressor.decompress(data, size)
                if decompressor.eof:
                    self._rest = decompressor.unused_data
                    self._current = None
                if out:
                    return out
        except self._errors as e:
            raise ImageError(f"the {self._name} data is damaged: {e}") from e


class _Zstd:
    """The library does not tell the end of a frame from the end of its input while it bounds its output:
    a stream that is cut off just ends, and whoever reads the tar archive in it notices."""

    def __init__(self, stream: Readable) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(
            cast(IO[bytes], stream), read_size=_IN, read_across_frames=True
        )

    def read(self, size: int = _OUT, /) -> bytes:
        try:
            return self._reader.read(size)
        except self._error as e:
            raise ImageError(f"the zstd data is damaged: {e}") from e


def decompressed(stream: Readable, compression: Compression) -> Readable:
    """A stream of the decompressed bytes; raises ImageError while reading damaged data."""
    if compression == "gzip":
        from isal import igzip_lib

        return _Members(
            stream,
            "gzip",
            lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
            (cast(type[Exception], igzip_lib.IsalError), EOFError, ValueError),
        )
    if compression == "bzip2":
        import bz2

        return _Members(stream, "bzip2", bz2.BZ2Decompressor, (OSError, EOFError, ValueError))
    if compression == "xz":
        import lzma

        return _Members(
            stream,
            "xz",
            lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
            (lzma.LZMAError, EOFError),
        )
    if compression == "zstd":
        return _Zstd(stream)
    return stream


def is_tar(head: bytes) -> bool:
    """Whether uncompressed data that starts with these 512 bytes is a tar archive."""
    from buildkit_py.archive.untar import checksum_matches

    return len(head) >= 512 and (checksum_matches(head[:512]) or head[:1024] == bytes(1024))


def open_archive(stream: Readable) -> Readable | None:
    """The tar archive in a stream, decompressed; None where there is none (ADD then copies the file)."""
    head, whole = peek(stream)
    compression = detect(head)
    try:
        inner, tar = peek(decompressed(whole, compression))
    except ImageError:
        return None
    return tar if is_tar(inner) else None
