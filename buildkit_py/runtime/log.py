"""A container's log: a line of JSON for each line of output, in the form of docker's json-file.

    {"log":"hello\\n","stream":"stdout","time":"2024-05-01T12:00:00.123456789Z"}

A line of more than 16 KiB is split; only the last part ends with a newline. What is not UTF-8 is replaced,
as it is there. With a largest size, a file that has reached it becomes ``log.1``, that one ``log.2``, and
so on, as many as are kept.
"""

from __future__ import annotations

import os
import time
from _json import encode_basestring
from collections.abc import Iterator
from contextlib import suppress

from buildkit_py.tuples import NamedTuple

FILE = "log"
LONGEST = 16 << 10


class Log:
    """The writing end. A full disk loses lines, never the container."""

    def __init__(self, directory: str, largest: int = 0, files: int = 2) -> None:
        """``largest``: bytes of a file; 0 for any. ``files``: how many are kept."""
        self._directory = directory
        self._largest = largest
        self._files = files
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        self._rest = {"stdout": b"", "stderr": b""}
        self.lost = 0
        """Bytes of the log that could not be written."""

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(os.path.join(self._directory, FILE), flags, 0o600)

    def write(self, stream: str, data: bytes) -> bool:
        """Take output; whether a line went to the file."""
        data = self._rest[stream] + data
        end = data.rfind(b"\n") + 1
        if len(data) - end >= LONGEST:
            end = len(data)
        self._rest[stream] = data[end:]
        return bool(end) and self._put(stream, data[:end])

    def flush(self) -> None:
        """Write the beginnings of lines that never ended."""
        for stream, rest in self._rest.items():
            if rest:
                self._put(stream, rest)
            self._rest[stream] = b""

    def _put(self, stream: str, data: bytes) -> bool:
        tail = f',"stream":"{stream}","time":"{now()}"}}\n'
        lines = data.splitlines(keepends=True) if b"\r" not in data else _lines(data)
        parts = []
        for line in lines:
            while len(line) > LONGEST:
                parts.append(_record(line[:LONGEST], tail))
                line = line[LONGEST:]
            parts.append(_record(line, tail))
        text = "".join(parts).encode()
        try:
            os.write(self._fd, text)
            self._size += len(text)
            if self._largest and self._size >= self._largest:
                self._turn()
        except OSError:
            self.lost += len(text)
            return False
        return True

    def _turn(self) -> None:
        path = os.path.join(self._directory, FILE)
        for number in range(self._files - 1, 1, -1):
            with suppress(FileNotFoundError):
                os.rename(f"{path}.{number - 1}", f"{path}.{number}")
        if self._files > 1:
            os.rename(path, f"{path}.1")
        else:
            os.unlink(path)
        os.close(self._fd)
        self._fd = self._open()
        self._size = 0

    def close(self) -> None:
        self.flush()
        os.close(self._fd)


def _record(line: bytes, tail: str) -> str:
    return '{"log":' + encode_basestring(line.decode("utf-8", "replace")) + tail


def _lines(data: bytes) -> list[bytes]:
    """splitlines() would end a line at a carriage return as well."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def now() -> str:
    return stamp(time.time_ns())


def stamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with nine digits."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09}Z"


class Entry(NamedTuple):
    stream: str
    time: str
    text: str
    """With its newline, where it has one."""


class Reader:
    """The reading end. ``read`` may be called again when there is more."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1
        self._rest = b""

    def read(self) -> Iterator[Entry]:
        """What has been written since the last call; at the first one all that is kept."""
        while True:
            yield from self._rest_of_file()
            newer = self._next()
            if newer < 0:
                return
            # What came to the file before while it was being renamed.
            yield from self._rest_of_file()
            self.close()
            self._fd = newer

    def _next(self) -> int:
        """The file after the one that is being read, the oldest where none is; -1 at the end of all."""
        newer, number = self._open(FILE), 0
        while newer >= 0:
            if self._is_open(newer):
                os.close(newer)
                return -1
            number += 1
            older = self._open(f"{FILE}.{number}")
            if older < 0 or self._is_open(older):
                if older >= 0:
                    os.close(older)
                return newer
            os.close(newer)
            newer = older
        return -1

    def _is_open(self, fd: int) -> bool:
        return self._fd >= 0 and os.path.samestat(os.fstat(fd), os.fstat(self._fd))

    def _rest_of_file(self) -> Iterator[Entry]:
        import json

        while self._fd >= 0 and (data := os.read(self._fd, 1 << 20)):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                try:
                    fields = json.loads(line)
                    yield Entry(fields["stream"], fields["time"], fields["log"])
                except (ValueError, KeyError):
                    # A line that a full disk cut off.
                    continue

    def _open(self, name: str) -> int:
        try:
            return os.open(os.path.join(self._directory, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
