"""A command's side of a container's streams: what the supervisor's pipes bring goes to ours, and back.

One loop waits for everything: the pipes, our input, the supervisor's word that the container has ended, and
signals. Those are told by a wake-up descriptor, so none is lost that comes just before the loop waits.
"""

from __future__ import annotations

import _socket
import os
import select
import signal
import termios
import tty

from buildkit_py.errors import ContainerError, PybuildError
from buildkit_py.runtime import control
from buildkit_py.runtime.loop import Loop
from buildkit_py.runtime.streams import Sink

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
PATIENCE = 3
"""The so-manieth interrupt kills a container that ignores the earlier ones (as the docker client does)."""
_CHUNK = 64 << 10
_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


class Attachment:
    """Made before the container starts, so that it gets every signal from then on; closed at the end.

    ``terminal``: the process has one. ``detach``: the keys that leave it running.
    """

    def __init__(self, *, terminal: bool, proxy: bool, detach: bytes) -> None:
        self._terminal = terminal
        self._detach = detach
        self._loop = Loop()
        self._conn: _socket.socket | None = None
        self._inlet: Sink | None = None
        self._typed = b""
        """The beginning of the keys to detach, kept back."""
        self._outputs: set[int] = set()
        self._interrupts = 0
        self._status: int | None = None
        self._detached = False
        self.warning = ""
        """What there is to say of the end of a container."""
        self._error: PybuildError | None = None
        self._saved: list[object] | None = None
        self._early: list[int] = []
        self._before: dict[int, object] = {}
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for number in (*(FORWARDED if proxy else ()), signal.SIGWINCH):
            self._before[number] = signal.signal(number, lambda *_: None)
        self._loop.watch(self._wake_r, self._signalled)

    def serve(self, conn: _socket.socket, names: tuple[str, ...], fds: list[int]) -> int | None:
        """Pass all on until the process ends: its exit status; None where the keys to detach were typed."""
        self._conn = conn
        try:
            for name, fd in zip(names, fds, strict=True):
                if name == "stdin":
                    self._take_input(fd)
                else:
                    self._take_output(fd, _NUMBERS[name])
            self._loop.watch(conn.fileno(), self._told)
            for number in self._early:
                self._forward(number)
            while not self._detached and (self._outputs or (self._status is None and self._error is None)):
                self._loop.turn()
        finally:
            self._restore()
        if self._detached:
            return None
        if self._error is not None:
            raise self._error
        return self._status

    def close(self) -> None:
        """Give signals and terminal back."""
        self._restore()
        if self._wake_r >= 0:
            signal.set_wakeup_fd(self._wakeup)
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._wake_r = -1

    # Output

    def _take_output(self, fd: int, target: int) -> None:
        self._outputs.add(fd)
        self._loop.watch(fd, lambda _: self._pass_on(fd, target))

    def _pass_on(self, fd: int, target: int) -> None:
        data = os.read(fd, _CHUNK)
        if not data:
            self._loop.forget(fd)
            self._outputs.discard(fd)
            os.close(fd)
        while data:
            try:
                data = data[os.write(target, data) :]
            except BlockingIOError:
                # Whoever gave us the stream made it so.
                poll = select.poll()
                poll.register(target, select.POLLOUT)
                poll.poll()

    # Input

    def _take_input(self, fd: int) -> None:
        self._inlet = Sink(self._loop, fd, self._read_on)
        if self._terminal and os.isatty(0):
            self._saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)
        self._read_on()

    def _read_on(self) -> None:
        if self._inlet is not None and self._inlet.open and not self._inlet.ending:
            self._loop.watch(0, self._typed_on)
        else:
            self._loop.forget(0)

    def _typed_on(self, events: int) -> None:
        assert self._inlet is not None
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            # The terminal is gone.
            data = b""
        if not data:
            self._loop.forget(0)
            # The end of a terminal's input is a character.
            self._inlet.put(self._typed + (b"\x04" if self._terminal else b""))
            self._inlet.end()
            return
        if self._saved is not None and self._detach:
            data = self._look_for_keys(data)
        self._inlet.put(data)
        if self._inlet.full:
            self._loop.forget(0)

    def _look_for_keys(self, data: bytes) -> bytes:
        """What of the input goes on; a beginning of the keys stays back until it is clear what it is."""
        data = self._typed + data
        self._typed = b""
        if self._detach in data:
            self._detached = True
            return data.partition(self._detach)[0]
        for length in range(len(self._detach) - 1, 0, -1):
            if data.endswith(self._detach[:length]):
                self._typed = data[-length:]
                return data[:-length]
        return data

    # The supervisor's words, and signals

    def _told(self, events: int) -> None:
        assert self._conn is not None
        message, _ = control.receive(self._conn)
        if message is None:
            self._error = PybuildError("the container's supervisor has died, and the container with it")
        elif "error" in message:
            hint = message.get("hint", "")
            if "exit" in message:
                self._error = ContainerError(message["error"], status=message["exit"], hint=hint)
            else:
                self._error = PybuildError(message["error"], hint=hint)
        elif "exit" in message:
            self._status = message["exit"]
            self.warning = message.get("said", "")
        else:
            return
        self._loop.forget(self._conn.fileno())

    def _signalled(self, events: int) -> None:
        for number in os.read(self._wake_r, 256):
            if self._conn is None:
                self._early.append(number)
            else:
                self._forward(number)

    def _forward(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._send({"op": "resize", **size()})
            return
        if number in (signal.SIGINT, signal.SIGTERM):
            self._interrupts += 1
        killing = self._interrupts >= PATIENCE
        self._send({"op": "signal", "signal": int(signal.SIGKILL) if killing else number})

    def _send(self, message: control.Message) -> None:
        assert self._conn is not None
        try:
            control.send(self._conn, message)
        except OSError:
            # It has ended: the answer is on its way.
            pass

    def _restore(self) -> None:
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
            self._saved = None


def size() -> dict[str, int]:
    """Of the terminal that is ours, as ``rows`` and ``columns``; 0 where there is none."""
    for fd in (1, 0, 2):
        try:
            columns, rows = os.get_terminal_size(fd)
            return {"rows": rows, "columns": columns}
        except OSError:
            continue
    return {"rows": 0, "columns": 0}
