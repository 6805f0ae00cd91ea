from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pexpect
import pytest

from buildkit_py.progress import ticker, tty
from buildkit_py.progress.display import open_display
from buildkit_py.progress.events import LogEvent, StatusEvent, VertexEvent
from buildkit_py.progress.frame import Board, Row, columns, cut, paint
from buildkit_py.progress.tty import Terminal
from tests.unit.progress.screen import Screen

LAYER = "sha256:" + "1a2b3c4d" * 8


class Pty:
    """A pseudo-terminal whose other side is read into a Screen."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.master, slave = pty.openpty()
        self.resize(columns, lines)
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self.screen = Screen(columns, lines)
        self._reader = threading.Thread(target=self._read)
        self._data: list[bytes] = []
        self._reader.start()

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            self._data.append(data)

    def finish(self) -> Screen:
        self.stream.close()
        self._reader.join()
        os.close(self.master)
        self.screen.feed(self.output)
        return self.screen

    @property
    def output(self) -> str:
        return b"".join(self._data).decode()


@pytest.fixture(autouse=True)
def colourful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_final_state_without_a_single_frame() -> None:
    """A build where nothing changed: no thread has drawn anything when it ends."""
    terminal, clock = Pty(), Clock()
    display = Terminal(terminal.stream, clock=clock)
    display(VertexEvent("a", "[1/2] FROM busybox", started=1000.0, completed=1000.0, cached=True))
    display(VertexEvent("b", "[2/2] RUN x", cached=True))
    clock.now += 0.04
    display.close()
    display.close()
    assert threading.active_count() == 2  # with the reader of the pty
    screen = terminal.finish()
    assert screen.text == (
        "[+] Building 0.0s (2/2) FINISHED\n"
        f"{' => CACHED [1/2] FROM busybox':<74} 0.0s\n"
        f"{' => CACHED [2/2] RUN x':<74} 0.0s\n"
    )
    assert screen.cursor_shown
    assert "\x1b[?25l" not in terminal.output


def test_frames_replace_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tty, "DELAY", 0.01)
    monkeypatch.setattr(tty, "INTERVAL", 0.01)
    terminal = Pty(60, 12)
    display = Terminal(terminal.stream)
    begun = time.time()
    display(VertexEvent("a", "[1/2] FROM debian", started=begun))
    for step in range(1, 5):
        display(StatusEvent("a", LAYER, step * 10_000_000, 40_000_000, begun))
        time.sleep(0.02)
    display(StatusEvent("a", LAYER, 40_000_000, 40_000_000, begun, time.time()))
    display(VertexEvent("a", "[1/2] FROM debian", started=begun, completed=time.time()))
    display(VertexEvent("b", "[2/2] RUN make", started=time.time()))
    for number in range(30):
        display(LogEvent("b", 1, f"line {number}\n".encode(), time.time()))
        time.sleep(0.003)
    display(VertexEvent("b", "[2/2] RUN make", started=begun, completed=begun + 1.0))
    display.close()
    screen = terminal.finish()
    lines = screen.text.splitlines()
    assert lines[0].startswith("[+] Building 0.") and lines[0].endswith("(2/2) FINISHED")
    assert [line.split("  ")[0] for line in lines[1:]] == [
        " => [1/2] FROM debian",
        " => => sha256:1a2b3c4d1a2b",
        " => [2/2] RUN make",
    ]
    assert lines[3].endswith(" 1.0s")
    assert "40.00MB / 40.00MB" in lines[2]
    assert screen.cursor_shown and not screen.wrapped
    assert " => => # line 2" in terminal.output
    assert "\x1b[2J" not in terminal.output


def test_more_steps_than_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tty, "DELAY", 0.005)
    monkeypatch.setattr(tty, "INTERVAL", 0.005)
    terminal = Pty(40, 6)
    display = Terminal(terminal.stream)
    for number in range(20):
        name = f"[{number}/20] RUN " + "x" * 50
        begun = time.time()
        display(VertexEvent(str(number), name, started=begun))
        display(LogEvent(str(number), 1, b"log\n" * 9, begun))
        time.sleep(0.01)
        display(VertexEvent(str(number), name, started=begun, completed=begun))
    display.close()
    screen = terminal.finish()
    lines = screen.text.splitlines()
    assert len(lines) == 21
    assert not screen.wrapped
    assert all(line.endswith("…  0.0s") and len(line) == 39 for line in lines[1:])


def test_a_narrower_terminal() -> None:
    board = Board()
    board.take(VertexEvent("a", "RUN " + "y" * 200, started=0.0), 0.0)
    for width in (120, 80, 21, 10):
        for row in board.rows(1.0):
            assert columns(paint(row, width, colour=False)) <= max(width, len(row.right))


def test_a_frame_fits_and_shows_what_runs() -> None:
    board = Board()
    for number in range(10):
        board.take(VertexEvent(f"old{number}", f"old {number}", started=0.0, completed=1.0), 0.0)
    for number in range(3):
        board.take(VertexEvent(f"new{number}", f"new {number}", started=1.0), 1.0)
        board.take(LogEvent(f"new{number}", 1, b"one\ntwo\nthree\nfour", 1.0), 1.0)
    for height in range(2, 30):
        rows = board.rows(2.0, height=height)
        assert len(rows) <= height
        assert sum("new" in row.left for row in rows) == min(3, height - 1)
    texts = [row.left for row in board.rows(2.0, height=24)]
    assert texts[-1] == " => => # four"
    assert texts[1].startswith(" => old")


def test_wide_characters_take_two_columns() -> None:
    assert columns("日本") == 4
    assert columns("e\u0301") == 1
    assert cut("日本語", 5) == "日本…"
    assert cut("short", 5) == "short"
    assert paint(Row("日本語日本語", "0.1s"), 20, colour=False) == "日本語日本語    0.1s"


def test_nothing_in_a_log_moves_the_cursor() -> None:
    terminal = Pty()
    display = Terminal(terminal.stream, clock=lambda: 5.0)
    evil = "\x1b[2J\x1b]0;title\x07\x1b[10A\x1b[?25l\rover\x08\x08\x00"
    display(VertexEvent("a", "RUN " + evil, started=1.0))
    display(LogEvent("a", 1, evil.encode() + b"\n" + evil.encode(), 2.0))
    display(StatusEvent("a", evil, 1, 2, 1.0))
    with display._lock:
        display._draw()
    display(VertexEvent("a", "RUN " + evil, started=1.0, completed=2.0, error="no"))
    display.close()
    screen = terminal.finish()  # refuses unknown sequences
    assert " => ERROR RUN over" in screen.text
    assert screen.cursor_shown


def test_stop_all_leaves_a_process_with_one_thread() -> None:
    """As the engine needs it before it enters a user namespace."""
    script = """if True:
        import ctypes, os, sys, time
        from buildkit_py.progress import ticker
        from buildkit_py.progress.events import VertexEvent
        from buildkit_py.progress.tty import Terminal
        display = Terminal(sys.stderr)
        for n in range(50):
            display(VertexEvent(str(n), "x", started=time.time()))
            assert len(os.listdir("/proc/self/task")) == 2
            ticker.stop_all()
            assert len(os.listdir("/proc/self/task")) == 1
        display.close()
        """
    subprocess.run([sys.executable, "-c", script], check=True, stderr=subprocess.DEVNULL)


def test_a_ticker_that_ends_itself_can_be_stopped() -> None:
    calls: list[int] = []

    def tick() -> bool:
        calls.append(1)
        return False

    once = ticker.Ticker(tick, delay=0.0, interval=0.0)
    once.start()
    while not once.stopped:
        time.sleep(0.001)
    once.stop()
    assert calls == [1]
    ticker.stop_all()


def test_a_terminal_that_went_away_does_not_fail_the_build() -> None:
    terminal = Pty()
    display = Terminal(terminal.stream)
    display(VertexEvent("a", "RUN x", started=1.0))
    terminal.finish()
    with display._lock:
        display._draw()
    display.close()


def test_auto_by_pexpect(tmp_path: Path) -> None:
    """Through the real thing: a child on a real pty, interrupted by an exception in the build."""
    script = tmp_path / "child.py"
    script.write_text(
        "import time\n"
        "from buildkit_py.progress.display import open_display\n"
        "from buildkit_py.progress.events import LogEvent, VertexEvent\n"
        "display = open_display('auto')\n"
        "try:\n"
        "    display(VertexEvent('a', 'RUN slow', started=time.time()))\n"
        "    display(LogEvent('a', 1, b'working on it\\n', time.time()))\n"
        "    input()\n"
        "    raise KeyboardInterrupt\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
        "finally:\n"
        "    display.close()\n"
    )
    child = pexpect.spawn(
        sys.executable, [str(script)], encoding="utf-8", timeout=20, dimensions=(24, 80), echo=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    child.expect(r"\[\+\] Building")
    child.expect("=> => # working on it")
    child.setwinsize(10, 30)
    child.expect(r"\[\+\] Building")
    child.expect(r"RUN slow {6,}0\.\ds")
    child.sendline("")
    child.expect(r"\x1b\[\?25h")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_modes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from buildkit_py.errors import UsageError

    monkeypatch.delenv("BUILDKIT_PROGRESS", raising=False)
    for mode, name in (("auto", "Plain"), ("", "Plain"), ("rawjson", "RawJson"), ("quiet", "Quiet")):
        display = open_display(mode)
        assert type(display).__name__ == name
        display(VertexEvent("a", "x"))
        display.close()
    with pytest.raises(UsageError, match="terminal"):
        open_display("tty")
    with pytest.raises(UsageError, match="unknown progress mode"):
        open_display("fancy")
    monkeypatch.setenv("BUILDKIT_PROGRESS", "rawjson")
    for mode, name in (("auto", "RawJson"), ("plain", "Plain")):  # the option comes before the variable
        assert type(open_display(mode)).__name__ == name
