"""The supervisor's side of a process's standard streams.

Output goes from a pipe, or a pseudo-terminal, to the log and to any number of clients; what a client writes
goes to the process. Clients have pipes of their own, so that nobody's terminal is made non-blocking. One that
doesn't read holds the process up, as a pipe would; one that went away is forgotten.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
from collections.abc import Callable

from buildkit_py.runtime.log import Log
from buildkit_py.runtime.loop import Loop

_CHUNK = 64 << 10
_PIPE = 1 << 20
"""Bytes of the largest pipe."""
_AWAY = (errno.EPIPE, errno.EIO, errno.EBADF)


class Sink:
    """A client's pipe, or the process's input: takes what it can, and keeps the rest."""

    def __init__(self, loop: Loop, fd: int, eased: Callable[[], None]) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._loop = loop
        self._rest = b""
        self._eased = eased
        """Called when it can take more again, or is gone."""
        self.ending = False

    @property
    def full(self) -> bool:
        return bool(self._rest)

    @property
    def open(self) -> bool:
        return self.fd >= 0

    def put(self, data: bytes) -> None:
        if self.fd < 0:
            return
        if not self._rest:
            data = self._write(data)
        if data:
            self._rest += data
            self._loop.watch(self.fd, self._ready, select.POLLOUT)

    def end(self) -> None:
        """Close it when what it keeps is written."""
        self.ending = True
        if not self._rest:
            self.close()

    def close(self) -> None:
        if self.fd >= 0:
            self._loop.forget(self.fd)
            os.close(self.fd)
            self.fd = -1
            self._rest = b""
            self._eased()

    def _write(self, data: bytes) -> bytes:
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except BlockingIOError:
            pass
        except OSError as e:
            if e.errno not in _AWAY:
                raise
            self.close()
            return b""
        return data

    def _ready(self, events: int) -> None:
        self._rest = self._write(self._rest)
        if self._rest or self.fd < 0:
            return
        self._loop.forget(self.fd)
        if self.ending:
            self.close()
        else:
            self._eased()


class Outlet:
    """One stream of output."""

    def __init__(self, loop: Loop, fd: int, name: str, log: Log | None, logged: Callable[[], None]) -> None:
        self.fd = fd
        self._loop = loop
        self._name = name
        self._log = log
        self._logged = logged
        self._sinks: list[Sink] = []
        loop.watch(fd, self._ready)

    def add(self) -> int:
        """One more client: the end of a pipe that is the client's."""
        theirs, ours = os.pipe()
        self._sinks.append(Sink(self._loop, ours, self._go_on))
        return theirs

    def _ready(self, events: int) -> None:
        if not self._take():
            self.close()

    def _take(self) -> bool:
        """Hand on what is there; whether more may come."""
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            # The last holder of a terminal is gone.
            data = b""
        if data:
            self._hand_on(data)
        return bool(data)

    def _hand_on(self, data: bytes) -> None:
        if self._log is not None and self._log.write(self._name, data):
            self._logged()
        for sink in self._sinks:
            sink.put(data)
        self._sinks = [sink for sink in self._sinks if sink.open]
        if any(sink.full for sink in self._sinks):
            self._loop.forget(self.fd)

    def _go_on(self) -> None:
        if self.fd >= 0 and not any(sink.full for sink in self._sinks if sink.open):
            self._loop.watch(self.fd, self._ready)

    def pending(self) -> bool:
        return any(sink.full for sink in self._sinks)

    def drain(self) -> None:
        """The process has ended: take what it left, wait for no more. No more than a pipe holds: somebody
        outside of the sandbox may have got hold of its other end."""
        if self.fd < 0:
            return
        os.set_blocking(self.fd, False)
        for _ in range(_PIPE // _CHUNK):
            try:
                data = os.read(self.fd, _CHUNK)
            except OSError:
                break
            if not data:
                break
            self._hand_on(data)
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            self._loop.forget(self.fd)
            os.close(self.fd)
            self.fd = -1
        for sink in self._sinks:
            sink.end()


class Inlet:
    """The process's input, from any number of clients, one after the other or mixed."""

    def __init__(self, loop: Loop, fd: int, *, once: bool) -> None:
        """``once``: the input ends with the first client's."""
        self._loop = loop
        self._sink = Sink(loop, fd, self._go_on)
        self._once = once
        self._sources: list[int] = []

    def add(self) -> int:
        """One more client: the end of a pipe that is the client's."""
        ours, theirs = os.pipe()
        self._sources.append(ours)
        if not self._sink.full:
            self._watch(ours)
        return theirs

    def _watch(self, fd: int) -> None:
        self._loop.watch(fd, lambda events: self._ready(fd))

    def _ready(self, fd: int) -> None:
        data = os.read(fd, _CHUNK)
        if data:
            self._sink.put(data)
        if not data or not self._sink.open:
            self._drop(fd)
            if not data and self._once:
                self._sink.end()
        elif self._sink.full:
            for source in self._sources:
                self._loop.forget(source)

    def _go_on(self) -> None:
        for source in self._sources:
            if self._sink.open:
                self._watch(source)
            else:
                # What comes now would never be read: the client learns of it by its pipe.
                self._loop.forget(source)

    def _drop(self, fd: int) -> None:
        self._loop.forget(fd)
        self._sources.remove(fd)
        os.close(fd)

    def close(self) -> None:
        for fd in list(self._sources):
            self._drop(fd)
        self._sink.close()


class Streams:
    """All streams of one process, made before it starts."""

    def __init__(
        self,
        loop: Loop,
        *,
        terminal: bool,
        interactive: bool,
        once: bool,
        size: tuple[int, int] = (0, 0),
        master: int = -1,
        log: Log | None = None,
        logged: Callable[[], None] = lambda: None,
    ) -> None:
        """``master``: of a terminal that is there already, which is then ours to close."""
        self.terminal = terminal
        self._master = master
        self._theirs: list[int] = []
        self._inlet: Inlet | None = None
        if terminal:
            if master < 0:
                self._master, slave = os.openpty()
                self._theirs = [slave]
            self.resize(*size)
            self._outlets = {"stdout": Outlet(loop, self._master, "stdout", log, logged)}
            if interactive:
                self._inlet = Inlet(loop, os.dup(self._master), once=False)
            return
        (out, out_w), (err, err_w) = os.pipe(), os.pipe()
        self._outlets = {
            "stdout": Outlet(loop, out, "stdout", log, logged),
            "stderr": Outlet(loop, err, "stderr", log, logged),
        }
        if interactive:
            given, ours = os.pipe()
            self._inlet = Inlet(loop, ours, once=once)
        else:
            given = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._theirs = [given, out_w, err_w]

    @property
    def given(self) -> tuple[int, int, int]:
        """Standard input, output and error of the process."""
        first = self._theirs[0]
        return (first, first, first) if self.terminal else (first, self._theirs[1], self._theirs[2])

    def started(self) -> None:
        """The process has its own copies: close ours, or the streams never end."""
        for fd in self._theirs:
            os.close(fd)
        self._theirs = []

    def attach(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Give a client those of stdin, stdout and stderr that are there, as ends of pipes: the caller's to
        send and to close."""
        found: list[tuple[str, int]] = []
        for name in names:
            if name == "stdin" and self._inlet is not None:
                found.append((name, self._inlet.add()))
            elif name in self._outlets and self._outlets[name].fd >= 0:
                found.append((name, self._outlets[name].add()))
        return tuple(name for name, _ in found), tuple(fd for _, fd in found)

    def resize(self, rows: int, columns: int) -> None:
        if self._master >= 0 and rows > 0 and columns > 0:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def pending(self) -> bool:
        """Whether some client has not taken all that is for it."""
        return any(outlet.pending() for outlet in self._outlets.values())

    def end(self) -> None:
        """The process is gone: what it left goes on its way, and all is closed."""
        self.started()
        self._master = -1
        for outlet in self._outlets.values():
            outlet.drain()
        if self._inlet is not None:
            self._inlet.close()
