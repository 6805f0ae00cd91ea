"""Patterns against a straightforward translation to regular expressions."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.frontends.dockerfile import patterns

ALPHABET = "ab/"
PATTERNS = st.text(ALPHABET + "*?", max_size=8)
VALUES = st.text(ALPHABET, max_size=12)


def _regex(pattern: str, *, greedy: bool) -> str:
    star = ".*" if greedy else ".*?"
    return "(?s)" + "".join(star if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)


@given(PATTERNS, VALUES, st.booleans())
def test_prefixes(pattern: str, value: str, longest: bool) -> None:
    ends = [end for end in range(len(value) + 1) if re.fullmatch(_regex(pattern, greedy=True), value[:end])]
    end = (max if longest else min)(ends) if ends else 0
    segments = patterns.compile_pattern(pattern, "\\")
    assert patterns.remove_prefix(segments, value, longest=longest) == value[end:]


@given(PATTERNS, VALUES, st.booleans())
def test_suffixes(pattern: str, value: str, longest: bool) -> None:
    size = len(value)
    starts = [i for i in range(size + 1) if re.fullmatch(_regex(pattern, greedy=True), value[i:])]
    start = (min if longest else max)(starts) if starts else size
    segments = patterns.compile_pattern(pattern, "\\")
    assert patterns.remove_suffix(segments, value, longest=longest) == value[:start]


@given(PATTERNS, VALUES)
def test_replacing_once(pattern: str, value: str) -> None:
    expected = re.sub(_regex(pattern, greedy=True), lambda _: "<>", value, count=1)
    segments = patterns.compile_pattern(pattern, "\\")
    assert patterns.replace(segments, value, "<>", every=False) == expected


@given(PATTERNS, VALUES)
def test_replacing_all(pattern: str, value: str) -> None:
    """Unlike Python's, an empty match right behind another match does not count."""
    matcher = re.compile(_regex(pattern, greedy=True))
    expected, position, last = [], 0, -1
    for match in matcher.finditer(value):
        if match.start() == match.end() == last:
            continue
        expected += [value[position : match.start()], "<>"]
        position = last = match.end()
    expected.append(value[position:])
    segments = patterns.compile_pattern(pattern, "\\")
    assert patterns.replace(segments, value, "<>", every=True) == "".join(expected)


@pytest.mark.parametrize("pattern", [r"\*", r"\?", r"\\", r"\}", r"\/"])
def test_escapes_make_characters_ordinary(pattern: str) -> None:
    segments = patterns.compile_pattern(pattern, "\\")
    assert patterns.remove_prefix(segments, pattern[1] + "x", longest=False) == "x"
    assert patterns.remove_prefix(segments, "yx", longest=False) == "yx"


@pytest.mark.parametrize("pattern", [r"\a", r"\ ", r"a\$", "\\"])
def test_other_escapes_are_errors(pattern: str) -> None:
    with pytest.raises(ValueError, match="escape"):
        patterns.compile_pattern(pattern, "\\")


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 8000 + "b", "a?" * 8000, "?" * 16000 + "b", "*" * 16000 + "b", "a" * 16000 + "b"],
)
def test_hostile_patterns_are_not_exponential(pattern: str) -> None:
    value = "a" * 65536
    start = time.process_time()
    segments = patterns.compile_pattern(pattern, "\\")
    patterns.remove_prefix(segments, value, longest=True)
    patterns.remove_suffix(segments, value, longest=False)
    patterns.replace(segments, value, "x", every=True)
    assert time.process_time() - start < 5
