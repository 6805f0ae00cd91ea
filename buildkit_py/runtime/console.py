"""A sandbox at the terminal of this process, without a supervisor: for looking into a step of a build."""

from __future__ import annotations

import os
import signal
import termios
import tty

from buildkit_py.errors import UsageError
from buildkit_py.runtime.attachment import size
from buildkit_py.runtime.loop import Loop
from buildkit_py.sandbox.launcher import Launcher, Running
from buildkit_py.sandbox.spec import SandboxSpec

_CHUNK = 64 << 10


def require() -> None:
    """Raises UsageError where there is no terminal."""
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("a shell needs a terminal", hint="run it where stdin and stdout are one")


def run(launcher: Launcher, spec: SandboxSpec, namespace: int = -1) -> int:
    """Run to the end; the exit status. From the main thread. ``namespace``: as of Launcher.run.

    Raises SandboxError.
    """
    return _Console(launcher, spec._replace(terminal=True), namespace).serve()


class _Console:
    def __init__(self, launcher: Launcher, spec: SandboxSpec, namespace: int) -> None:
        self._main, other = os.openpty()
        try:
            self._resize()
            self._running: Running = launcher.run(
                spec, stdin=other, stdout=other, stderr=other, namespace=namespace
            )
        except BaseException:
            os.close(self._main)
            raise
        finally:
            os.close(other)
        self._loop = Loop()
        self._open = True

    def serve(self) -> int:
        self._wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        wakeup = signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        before = signal.signal(signal.SIGWINCH, lambda *_: None)
        saved = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)
        try:
            self._loop.watch(self._wake_r, self._woken)
            self._loop.watch(0, self._typed)
            self._loop.watch(self._main, self._shown)
            while self._open:
                self._loop.turn()
            return self._running.wait()
        except BaseException:
            self._running.kill()
            self._running.wait()
            raise
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
            signal.signal(signal.SIGWINCH, before)
            signal.set_wakeup_fd(wakeup)
            for fd in (self._wake_r, wake_w, self._main):
                os.close(fd)

    def _woken(self, events: int) -> None:
        if signal.SIGWINCH in os.read(self._wake_r, 256):
            self._resize()

    def _resize(self) -> None:
        room = size()
        if room["rows"]:
            termios.tcsetwinsize(self._main, (room["rows"], room["columns"]))

    def _typed(self, events: int) -> None:
        data = os.read(0, _CHUNK)
        if not data:
            # Our terminal is gone.
            self._loop.forget(0)
            self._running.kill(signal.SIGHUP)
        _write(self._main, data)

    def _shown(self, events: int) -> None:
        try:
            data = os.read(self._main, _CHUNK)
        except OSError:
            # EIO: the last process that had it open has ended.
            data = b""
        if not data:
            self._loop.forget(self._main)
            self._open = False
        _write(1, data)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
