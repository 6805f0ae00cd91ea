"""parse_ignore and Matcher, by table and against a matcher that is written straight from the rules."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.dockerignore import Matcher, parse_ignore


def _hidden(patterns: str, path: str) -> bool:
    return Matcher(parse_ignore(patterns)).excluded(path, False)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ()),
        ("a\nb\n", ("a", "b")),
        ("\ufeffa", ("a",)),
        ("# comment\na", ("a",)),
        ("  # not a comment", ("# not a comment",)),
        ("  a  \r\n\t\nb", ("a", "b")),
        ("/a\n//b", ("a", "b")),
        ("a/\n./b\na/../c\nd//e", ("a", "b", "c", "d/e")),
        ("!a\n! b \n!/c", ("!a", "!b", "!c")),
        (".\n!.\n./", ()),
        ("../a", ("../a",)),
        ("/", ("/",)),
        ("**", ("**",)),
        (b"a\xff", ("a\udcff",)),
    ],
)
def test_parse(text: str | bytes, lines: tuple[str, ...]) -> None:
    assert parse_ignore(text) == lines


@pytest.mark.parametrize("text", ["!", "a\n!\n", "!  ", "[a", "a[]", "a[z-", "b\\", "[-a]", "[^"])
def test_malformed(text: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_ignore(text, "x.dockerignore")
    assert caught.value.path == "x.dockerignore"
    assert caught.value.start == (2 if text.startswith("a\n") else 1)
    assert caught.value.lines


@pytest.mark.parametrize(
    ("patterns", "path", "hidden"),
    [
        ("foo", "foo", True),
        ("foo", "foo/bar/baz", True),
        ("foo", "bar/foo", False),
        ("foo", "foobar", False),
        ("**/foo", "foo", True),
        ("**/foo", "a/b/foo", True),
        ("**/foo", "a/b/foo/c", True),
        ("**/foo", "a/bfoo", False),
        ("**", "a/b", True),
        ("**", "a", True),
        ("*", "a", True),
        ("*", "a/b/c", True),
        ("*/b", "a/b", True),
        ("*/b", "b", False),
        ("*/b", "a/c/b", False),
        ("a/**", "a", False),
        ("a/**", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/d/c", True),
        ("a/**/c", "a/b/dc", False),
        ("a/**/b/**/c", "a/x/b/b/y/c", True),
        ("**/a/**/b", "x/a/b", True),
        ("*.go", "x.go", True),
        ("*.go", "a/x.go", False),
        ("**/*.go", "a/x.go", True),
        ("**/*.go", "x.go", True),
        ("**/*.go", "x.gon", False),
        ("**foo", "a/foo", True),
        ("**foo", "afoo", False),
        ("a**b", "ab", True),
        ("a**b", "ax/b", True),
        ("a**", "abc/d", True),
        ("?", "a", True),
        ("?", "ab", False),
        ("a?c", "a/c", False),
        ("[ab]", "b", True),
        ("[^ab]", "b", False),
        ("[^ab]", "c", True),
        ("[!a]", "!", True),
        ("[!a]", "b", False),
        ("a[^b]c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[z-a]", "b", False),
        ("[\\]]", "]", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a.b", "axb", False),
        ("a+b", "a+b", True),
        ("*a*b*", "xaxbx", True),
        ("*a*b*", "xbxa", False),
        ("a*\n!ab", "ab", False),
        ("a*\n!ab\nab", "ab", True),
        ("!ab\na*", "ab", True),
        ("dir\n!dir/keep", "dir/keep", False),
        ("dir\n!dir/keep", "dir/keep/x", False),
        ("dir\n!dir/keep\ndir/keep/x", "dir/keep/x", True),
        ("dir\n!dir/keep", "dir/other", True),
        ("*\n!src\nsrc/*.o", "src/a.o", True),
        ("*\n!src\nsrc/*.o", "src/a.c", False),
        ("*\n!**/*.md", "a/b.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("../a", "a", False),
        ("/a", "a", True),
        ("Dockerfile", "Dockerfile", True),
        ("ä*", "äb", True),
        ("a\nb", "c", False),
        ("a b", "a b", True),
        ("*", "a\nb", True),
        ("[a&&b]", "&", True),
        ("[[a]", "[", True),
    ],
)
def test_match(patterns: str, path: str, hidden: bool) -> None:
    assert _hidden(patterns, path) is hidden


@pytest.mark.parametrize(
    ("patterns", "directory", "descend"),
    [
        ("a", "a", False),
        ("a\n!b", "a", False),
        ("a\n!a/b", "a", True),
        ("a\n!a/b/c", "a/b", True),
        ("a\n!a/b/c", "a/x", False),
        ("a\n!a/b", "a/b", False),
        ("!a/b\na", "a", False),
        ("a\n!**/x", "a/b/c", True),
        ("a\n!a/**/x", "a/b", True),
        ("a\n!b/**/x", "a", False),
        ("a\n!*/x", "a", True),
        ("a\n!*/x", "a/b", False),
        ("a\n!a/b**", "a", True),
        ("a\n!a/b/c\na/b", "a/b", False),
        ("a\n!a/b/c\na/b", "a", True),
    ],
)
def test_may_descend(patterns: str, directory: str, descend: bool) -> None:
    assert Matcher(parse_ignore(patterns)).may_descend(directory) is descend


# The rules as they are written down: each pattern in turn, the path and everything above it.


def _reference_glob(pattern: str, text: str) -> bool:
    """One component."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_reference_glob(pattern[1:], text[i:]) for i in range(len(text) + 1))
    if not text:
        return False
    if pattern[0] == "?":
        return _reference_glob(pattern[1:], text[1:])
    return pattern[0] == text[0] and _reference_glob(pattern[1:], text[1:])


def _reference_match(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return len(path) > 0
        return any(_reference_match(pattern[1:], path[i:]) for i in range(len(path) + 1))
    if not path:
        return False
    return _reference_glob(pattern[0], path[0]) and _reference_match(pattern[1:], path[1:])


def _reference(lines: tuple[str, ...], path: str) -> bool:
    parts = path.split("/")
    hidden = False
    for line in lines:
        pattern = line.removeprefix("!").split("/")
        if any(_reference_match(pattern, parts[:end]) for end in range(1, len(parts) + 1)):
            hidden = not line.startswith("!")
    return hidden


_component = st.sampled_from(["a", "b", "ab", "ba", "*", "?", "a*", "*b", "?b", "*a*", "a*b*", "**"])
_pattern = st.lists(_component, min_size=1, max_size=4).map("/".join)
_line = st.tuples(st.sampled_from(["", "", "!"]), _pattern).map("".join)
_path = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "c"]), min_size=1, max_size=5).map("/".join)


@settings(max_examples=400, deadline=None)
@given(st.lists(_line, max_size=6), st.lists(_path, min_size=1, max_size=8))
def test_agrees_with_the_reference(patterns: list[str], paths: list[str]) -> None:
    lines = parse_ignore("\n".join(patterns))
    matcher = Matcher(lines)
    for path in paths:
        assert matcher.excluded(path) is _reference(lines, path), (lines, path)


@settings(max_examples=300, deadline=None)
@given(st.lists(_line, max_size=6), _path)
def test_pruning_loses_nothing(patterns: list[str], path: str) -> None:
    """A path that is not hidden is reached: each hidden directory above it may be descended into."""
    lines = parse_ignore("\n".join(patterns))
    matcher = Matcher(lines)
    if matcher.excluded(path):
        return
    parts = path.split("/")
    for end in range(1, len(parts)):
        above = "/".join(parts[:end])
        assert not matcher.excluded(above, True) or matcher.may_descend(above), (lines, path, above)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab*?[]^-\\!/.# \n", max_size=30))
def test_any_text_is_patterns_or_a_clear_error(text: str) -> None:
    try:
        matcher = Matcher(parse_ignore(text))
    except DockerfileError:
        return
    matcher.excluded("a/b")
    matcher.may_descend("a")


def test_hostile_patterns_and_paths_take_no_time() -> None:
    start = time.process_time()
    assert not _hidden("*a" * 100 + "b", "a" * 255)
    assert not _hidden("/".join(["**/a"] * 60) + "/b", "/".join(["a"] * 1000))
    assert not _hidden("x", "/".join(["a"] * 2000))
    assert time.process_time() - start < 1


def test_fifty_thousand_files() -> None:
    text = "\n".join(
        [
            ".git",
            "**/node_modules",
            "**/*.pyc",
            "**/__pycache__",
            "*.log",
            "dist/*",
            "!dist/keep",
            "docs/**/*.md",
        ]
    )
    matcher = Matcher(parse_ignore(text))
    paths = [f"src/d{i // 100}/sub/file_{i}.py" for i in range(50_000)]
    best = 1.0
    for _ in range(3):
        start = time.process_time()
        for path in paths:
            matcher.excluded(path, False)
        best = min(best, time.process_time() - start)
    assert best < 0.2  # 0.06 s on an idle machine
