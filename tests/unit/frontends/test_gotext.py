"""Go's durations and quoting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.frontends.dockerfile import goduration, gotext


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1ns", 1),
        ("1us", 1_000),
        ("1µs", 1_000),
        ("1ms", 1_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("1h2m3s", 3_723_000_000_000),
        ("1m1m", 120_000_000_000),
        ("-1s", -1_000_000_000),
        ("+1s", 1_000_000_000),
        ("0.000000001s", 1),
    ],
)
def test_duration(text: str, nanoseconds: int) -> None:
    assert goduration.parse(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "1", "s", ".s", "1x", "1s ", "1 s", "--1s", "9999999999h", "1s2", "\u0661s"]
)
def test_malformed_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        goduration.parse(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (3_600_000_000_000, "1h0m0s"),
        (90_500_000_000, "1m30.5s"),
        (-1_000_000_000, "-1s"),
    ],
)
def test_duration_text(nanoseconds: int, text: str) -> None:
    assert goduration.text_of(nanoseconds) == text


@given(st.integers(min_value=-(1 << 62), max_value=1 << 62))
def test_durations_are_read_as_printed(nanoseconds: int) -> None:
    assert goduration.parse(goduration.text_of(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a b", '"a b"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\n\t\r\x01\x7f", '"a\\n\\t\\r\\x01\\x7f"'),
        ("é☃", '"é☃"'),
        ("\u2028", '"\\u2028"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)
def test_quoted(text: str, quoted: str) -> None:
    assert gotext.quoted(text) == quoted


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "'\\x00'"),
        (3, "'\\x03'"),
        (10, "'\\n'"),
        (39, "'\\''"),
        (34, "'\"'"),
        (65, "'A'"),
        (1 << 30, "'\ufffd'"),
    ],
)
def test_rune(number: int, text: str) -> None:
    assert gotext.rune(number) == text
