"""A container's log: a line of JSON for each line of output, in the form of docker's json-file.

    {"log":"hello\\n","stream":"stdout","time":"2024-05-01T12:00:00.123456789Z"}

A line of more than 16 KiB is split; only the last part ends with a newline. What is not UTF-8 is replaced,
as it is there.
"""

from __future__ import annotations

import os
import time
from _json import encode_basestring
from collections.abc import Iterator

from buildkit_py.tuples import NamedTuple

FILE = "log"
LONGEST = 16 << 10


class Log:
    """The writing end. A full disk loses lines, never the container."""

    def __init__(self, directory: str) -> None:
        self._fd = os.open(
            os.path.join(directory, FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._rest = {"stdout": b"", "stderr": b""}
        self.lost = 0
        """Bytes of the log that could not be written."""

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
        except OSError:
            self.lost += len(text)
            return False
        return True

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
        self._path = os.path.join(directory, FILE)
        self._offset = 0
        self._rest = b""

    def read(self) -> Iterator[Entry]:
        """What has been written since the last call."""
        import json

        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            while data := os.pread(fd, 1 << 20, self._offset):
                self._offset += len(data)
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    try:
                        fields = json.loads(line)
                        yield Entry(fields["stream"], fields["time"], fields["log"])
                    except (ValueError, KeyError):
                        # A line that a full disk cut off.
                        continue
        finally:
            os.close(fd)
