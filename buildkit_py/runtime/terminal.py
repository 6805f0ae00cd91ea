"""A container's standard streams: passed through as they are, or a pseudo-terminal served here."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import termios
import tty
from collections.abc import Callable
from types import FrameType

from buildkit_py.sandbox.launcher import Running

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
PATIENCE = 3
"""The so-manieth interrupt kills a container that ignores the earlier ones (as the docker client does)."""


class Forwarding:
    """While entered, signals to this process go to the container."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._interrupts = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Forwarding:
        for number in FORWARDED:
            self._before[number] = signal.signal(number, self._forward)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _forward(self, number: int, _: FrameType | None) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            self._interrupts += 1
        self._running.kill(signal.SIGKILL if self._interrupts >= PATIENCE else signal.Signals(number))


def serve_terminal(start: Callable[[int], Running], stdin: int, stdout: int) -> int:
    """Run with a pty. ``start`` gets the slave's descriptor. Returns the exit status.

    The caller's terminal is raw meanwhile and restored in all cases.
    """
    master, slave = os.openpty()
    try:
        _copy_size(stdin, slave)
        running = start(slave)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    os.close(slave)
    saved = termios.tcgetattr(stdin) if os.isatty(stdin) else None
    resized = signal.signal(signal.SIGWINCH, lambda *_: _copy_size(stdin, master))
    try:
        if saved is not None:
            tty.setraw(stdin)
        with Forwarding(running):
            _pump(master, stdin, stdout)
            return running.wait()
    except BaseException:
        running.kill()
        running.wait()
        raise
    finally:
        signal.signal(signal.SIGWINCH, resized)
        if saved is not None:
            termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
        os.close(master)


def _copy_size(source: int, target: int) -> None:
    try:
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)
    except OSError:
        # The caller has no terminal: the default size stays.
        pass


def _pump(master: int, stdin: int, stdout: int) -> None:
    """Copy both ways until the container closes its end."""
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(stdin, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            try:
                data = os.read(fd, 65536)
            except OSError:
                # EIO: the last holder of the slave is gone.
                data = b""
            if fd == master:
                if not data:
                    return
                _write_all(stdout, data)
            elif data:
                _write_all(master, data)
            else:
                # End of input is the terminal's EOF character for the container.
                poll.unregister(stdin)
                _write_all(master, b"\x04")


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
