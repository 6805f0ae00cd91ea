"""The plain renderer on recorded event streams: tests/unit/progress/cases/<name>/{events.jsonl,plain.txt}."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from buildkit_py.progress import plain
from buildkit_py.progress.events import Event, LogEvent, StatusEvent, VertexEvent, WarningEvent
from buildkit_py.progress.plain import Plain
from buildkit_py.progress.rawjson import RawJson

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.name for path in CASES.iterdir())
KINDS = {"vertex": VertexEvent, "status": StatusEvent, "log": LogEvent, "warning": WarningEvent}


def recorded(name: str) -> list[tuple[float, Event]]:
    result: list[tuple[float, Event]] = []
    for line in (CASES / name / "events.jsonl").read_text().splitlines():
        fields = json.loads(line)
        at = fields.pop("at")
        kind = fields.pop("kind")
        if kind == "log":
            fields = {
                "stream": 1,
                "time": at,
                **fields,
                "data": fields["data"].encode("utf-8", "surrogateescape"),
            }
        if "inputs" in fields:
            fields["inputs"] = tuple(fields["inputs"])
        result.append((at, KINDS[kind](**fields)))
    return result


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def no_flusher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that gives the floor to who waits goes by real time; it has its own test."""
    monkeypatch.setattr(Plain, "_start_flusher", lambda self: None)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    out, clock = io.StringIO(), Clock()
    display = Plain(out, clock=clock)
    for at, event in recorded(name):
        clock.now = at
        display(event)
    display.close()
    expected = CASES / name / "plain.txt"
    assert out.getvalue() == expected.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_golden_rawjson(name: str) -> None:
    out, clock = io.StringIO(), Clock()
    display = RawJson(out, clock=clock)
    for at, event in recorded(name):
        clock.now = at
        display(event)
    display.close()
    assert out.getvalue() == (CASES / name / "rawjson.txt").read_text()


def test_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    display = Plain(out, clock=lambda: 2.0)
    display(VertexEvent("a", "RUN x", started=1.0))
    display(LogEvent("a", 1, b"\x1b[31mred\x1b[0m\n", 2.0))
    display.close()
    assert out.getvalue() == "#1 RUN x\n#1 1.000 red\n"


def test_warnings_of_the_whole_file_are_left_to_the_summary() -> None:
    out = io.StringIO()
    display = Plain(out)
    display(WarningEvent("", "casing does not match", "FromAsCasing", "Dockerfile", 1))
    display.close()
    assert out.getvalue() == ""


def test_a_reader_that_went_away_does_not_fail_the_build() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    display = Plain(Broken())
    display(VertexEvent("a", "RUN x", started=1.0))
    display(VertexEvent("a", "RUN x", started=1.0, completed=2.0))
    display.close()


def test_a_waiting_step_gets_the_floor_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(plain, "SILENCE", 0.3)
    out = io.StringIO()
    display = Plain(out)
    display(VertexEvent("a", "RUN a", started=time.time()))
    display(VertexEvent("b", "RUN b", started=time.time()))
    display(LogEvent("b", 1, b"why it hangs\n", time.time()))
    assert "RUN b" not in out.getvalue()
    deadline = time.monotonic() + 5
    while "why it hangs" not in out.getvalue() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert out.getvalue().startswith("#1 RUN a\n#1 ...\n\n#2 RUN b\n#2 0.0")
    display.close()
