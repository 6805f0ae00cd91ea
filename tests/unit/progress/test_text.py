from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.progress.text import LONGEST, LogLines, clean, duration, layer, offset, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("tab\there", "tab here"),
        ("a\x1b[31mred\x1b[0mb", "aredb"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;ZXZpbA==\x1b\\x", "x"),
        ("\x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[1;1Hx", "x"),
        ("\x1bP1$r\x1b\\x", "x"),
        ("\x1b(Bx", "x"),
        ("\x1bcx", "x"),
        ("\x9b2Jx", "2Jx"),
        ("end\x1b", "end"),
        ("end\x1b[", "end"),
        ("end\x1b[12", "end"),
        ("\x1b]unended", ""),
        ("nul\0bell\x07back\x08", "nulbellback"),
        ("one\ntwo\u2028three", "one twothree"),
        ("ümlaut 日本", "ümlaut 日本"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_colours_are_kept_on_request_and_ended() -> None:
    assert clean("\x1b[31mred", colour=True) == "\x1b[31mred\x1b[0m"
    assert clean("\x1b[31mred\x1b[0m", colour=True) == "\x1b[31mred\x1b[0m"
    assert clean("\x1b[38;5;12mx\x1b[m\x1b[2K", colour=True) == "\x1b[38;5;12mx\x1b[m"
    assert clean("\x1b[>4;1mx", colour=True) == "x"  # xterm's modifyOtherKeys, not a colour


@given(st.text(st.sampled_from("\x1b[]P;0123mJHa\x07\\\x9b\x9c\r\n\x00 (B"), max_size=40))
def test_nothing_harmful_gets_through(text: str) -> None:
    assert clean(text).isprintable()
    kept = clean(text, colour=True)
    for part in kept.split("\x1b")[1:]:
        body, end, _ = part[1:].partition("m")
        assert part[0] == "[" and end and all(c in "0123456789;:" for c in body)


@given(st.text(max_size=60).filter(lambda t: "\r" not in t), st.integers(1, 7))
def test_lines_do_not_depend_on_the_chunks(text: str, step: int) -> None:
    data = text.encode("utf-8", "surrogatepass")
    whole, parts = LogLines(), LogLines()
    expected = whole.feed(data) + whole.end()
    got = [line for at in range(0, len(data), step) for line in parts.feed(data[at : at + step])]
    assert got + parts.end() == expected


@given(st.text(st.sampled_from("ab\r\n"), max_size=30), st.integers(1, 5))
def test_overwritten_lines_do_not_depend_on_the_chunks(text: str, step: int) -> None:
    data = text.encode()
    whole, parts = LogLines(), LogLines()
    expected = whole.feed(data) + whole.end()
    got = [line for at in range(0, len(data), step) for line in parts.feed(data[at : at + step])]
    assert got + parts.end() == expected


def test_progress_bars_show_their_last_state() -> None:
    lines = LogLines()
    assert lines.feed(b" 10%\r 50%\r") == []
    assert lines.partial == " 50%\r"
    assert lines.feed(b"100%\r\n") == ["100%"]
    assert lines.feed(b"dos\r\nunix\n") == ["dos", "unix"]


def test_bytes_that_are_not_utf8() -> None:
    lines = LogLines()
    assert lines.feed("ä\n".encode("latin-1")) == ["\ufffd"]
    assert lines.feed("ä".encode()[:1]) == []
    assert lines.feed("ä".encode()[1:] + b"\n") == ["ä"]
    assert lines.feed("€".encode()[:2]) == []
    assert lines.end() == ["\ufffd"]


def test_endless_lines_are_cut() -> None:
    lines = LogLines()
    got = lines.feed(b"x" * (3 * LONGEST + 5))
    assert [len(line) for line in got] == [LONGEST] * 3
    assert lines.feed(b"\n") == ["xxxxx"]


def test_numbers() -> None:
    assert [size(n) for n in (0, 32, 999, 1000, 2070, 10_485_760, 54_940_000, 1_500_000_000)] == [
        "0B", "32B", "999B", "1.00kB", "2.07kB", "10.49MB", "54.94MB", "1.50GB",
    ]  # fmt: skip
    assert [offset(s) for s in (-1, 0, 0.1234, 12.345, 123.45)] == [
        "0.000",
        "0.000",
        "0.123",
        "12.35",
        "123.5",
    ]
    assert duration(1.25) == "1.2s"
    assert layer("sha256:" + "ab" * 32) == "sha256:abababababab"
    assert layer("exporting layers") == "exporting layers"
