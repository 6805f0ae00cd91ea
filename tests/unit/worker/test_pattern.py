"""Wildcards against a matcher written down straight from the documentation of Go's filepath.Match."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.errors import PybuildError
from buildkit_py.worker.pattern import Excludes, component, is_wildcard, unescape


class Malformed(Exception):
    pass


def reference(pattern: str, name: str) -> bool:
    """pattern: { term }, term: '*', '?', '[' [ '^' ] { range } ']', c, '\\' c."""
    if not pattern:
        return not name
    c, rest = pattern[0], pattern[1:]
    if c == "*":
        ends = [n for n in range(len(name) + 1) if "/" not in name[:n]]
        return any(reference(rest, name[n:]) for n in ends)
    if c == "?":
        return bool(name) and name[0] != "/" and reference(rest, name[1:])
    if c == "[":
        ok, rest = reference_class(rest, name[:1])
        return bool(name) and ok and reference(rest, name[1:])
    if c == "\\":
        if not rest:
            raise Malformed
        c, rest = rest[0], rest[1:]
    return name[:1] == c and reference(rest, name[1:])


def reference_class(rest: str, char: str) -> tuple[bool, str]:
    negated = rest.startswith("^")
    rest = rest[negated:]
    matched, ranges = False, 0
    while True:
        if rest.startswith("]") and ranges:
            return matched != negated, rest[1:]
        low, rest = reference_char(rest)
        high = low
        if rest.startswith("-"):
            high, rest = reference_char(rest[1:])
        if char and low <= char <= high:
            matched = True
        ranges += 1


def reference_char(rest: str) -> tuple[str, str]:
    if not rest or rest[0] in "-]":
        raise Malformed
    if rest[0] == "\\":
        rest = rest[1:]
    if not rest or not rest[1:]:
        raise Malformed
    return rest[0], rest[1:]


def malformed(pattern: str) -> bool:
    """filepath.Match may find a bad pattern only when a name gets it there; pybuild always tells."""
    i = 0
    while i < len(pattern):
        if pattern[i] == "\\" and i + 1 == len(pattern):
            return True
        if pattern[i] == "[":
            try:
                i = len(pattern) - len(reference_class(pattern[i + 1 :], "a")[1])
            except Malformed:
                return True
            continue
        i += 2 if pattern[i] == "\\" else 1
    return False


patterns = st.text(alphabet="ab*?[]^-\\c.", max_size=10)
names = st.text(alphabet="abc.-]^[\\*", min_size=1, max_size=8)


@given(patterns, names)
def test_as_documented(pattern: str, name: str) -> None:
    if malformed(pattern):
        with pytest.raises(PybuildError):
            component(pattern)
    else:
        assert bool(component(pattern).fullmatch(name)) == reference(pattern, name)


@given(st.text(alphabet="*?[]\\-^a\udc80é\n/", max_size=12), st.text(max_size=12))
def test_any_pattern_compiles_or_is_an_error(pattern: str, name: str) -> None:
    try:
        component(pattern).fullmatch(name)
        Excludes([pattern, "!" + pattern]).match(name)
    except PybuildError:
        pass


def test_no_pattern_is_slow() -> None:
    start = time.process_time()
    assert not component("*a" * 40 + "b").fullmatch("a" * 255)
    assert not Excludes(["**/" + "*a" * 40 + "b"]).match("a" * 255)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("text", "wild", "plain"),
    [
        ("a*", True, "a*"),
        ("a\\*", False, "a*"),
        ("a\\\\b", False, "a\\b"),
        ("[x]", True, ""),
        ("a?", True, ""),
    ],
)
def test_wildcards_are_told_from_names(text: str, wild: bool, plain: str) -> None:
    assert is_wildcard(text) == wild
    if not wild:
        assert unescape(text) == plain


@pytest.mark.parametrize(
    ("rules", "path", "excluded"),
    [
        (["*.txt"], "a.txt", True),
        (["*.txt"], "d/a.txt", False),
        (["**/*.txt"], "a.txt", True),
        (["**/*.txt"], "d/e/a.txt", True),
        (["d"], "d/e/a.txt", True),
        (["d/**"], "d/x", True),
        (["d/**"], "d", False),
        (["d/**/x"], "d/x", True),
        (["/d/"], "d/x", True),
        (["./d/../e"], "e", True),
        (["d", "!d/keep"], "d/keep", False),
        (["d", "!d/keep", "d/keep"], "d/keep", True),
        (["a?c"], "a/c", False),
        (["a**"], "abc/def", True),
        ([""], "a", False),
        (["."], "a", False),
    ],
)
def test_excludes(rules: list[str], path: str, excluded: bool) -> None:
    assert Excludes(rules).match(path) == excluded
