"""Cutting lines into words, and JSON arrays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_py.frontends.dockerfile import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a"]),
        ("a b", ["a", "b"]),
        ("a \t\v\f\r b", ["a", "b"]),
        ("'a b'", ["'a", "b'"]),
        ("a\\ b", ["a\\", "b"]),
        ("a\u00a0b", ["a\u00a0b"]),
        ("a\u3000b c", ["a\u3000b", "c"]),
        ("", []),
    ],
)
def test_split_blanks(text: str, expected: list[str]) -> None:
    assert words.split_blanks(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a b", ("RUN", "a b")),
        ("RUN \t a  b", ("RUN", "a  b")),
        ("RUN", ("RUN", "")),
        ("RUN\va", ("RUN", "a")),
        ("RUN\u00a0a b", ("RUN\u00a0a", "b")),
    ],
)
def test_split_first(text: str, expected: tuple[str, str]) -> None:
    assert words.split_first(text) == expected


@pytest.mark.parametrize(
    ("text", "escape", "expected"),
    [
        ("a=b c=d", "\\", ["a=b", "c=d"]),
        ("a=b\tc=d", "\\", ["a=b", "c=d"]),
        ('a="b c" d=e', "\\", ['a="b c"', "d=e"]),
        ("a='b c' d=e", "\\", ["a='b c'", "d=e"]),
        (r"a=b\ c d=e", "\\", [r"a=b\ c", "d=e"]),
        (r'a="b\" c" d=e', "\\", [r'a="b\" c"', "d=e"]),
        (r"a='b\' d=e", "\\", [r"a='b\'", "d=e"]),
        ("a=b` c d=e", "`", ["a=b` c", "d=e"]),
        (r"a=b\ c=d", "`", ["a=b\\", "c=d"]),
        ('a="b', "\\", ['a="b']),
        ('a="b c d', "\\", ['a="b c d']),
        ("a=b\\", "\\", ["a=b"]),
        ("a \\", "\\", ["a"]),
        ("\\", "\\", []),
        ('""', "\\", ['""']),
        ("a=\u00a0b", "\\", ["a=", "b"]),
        ("a='\u00a0'b", "\\", ["a='\u00a0'b"]),
        ("a\"b c\"d 'e f'g", "\\", ['a"b c"d', "'e f'g"]),
        ("", "\\", []),
        ("  ", "\\", []),
    ],
)
def test_split_quoted(text: str, escape: str, expected: list[str]) -> None:
    assert words.split_quoted(text, escape) == expected


@pytest.mark.parametrize(
    ("text", "flags", "rest"),
    [
        ("a b", (), "a b"),
        ("--a b", ("--a",), "b"),
        ("--a=b --c=d  e f ", ("--a=b", "--c=d"), "e f"),
        ("--a='b c' d", ("--a=b c",), "d"),
        ('--a="b c"d e', ("--a=b cd",), "e"),
        (r"--a=b\ c d", ("--a=b c",), "d"),
        (r"--a=\" d", ('--a="',), "d"),
        (r'--a="\"" d', ('--a="',), "d"),
        ('--mount=type=bind,"target=/a b" d', ("--mount=type=bind,target=/a b",), "d"),
        ("-- a", (), "a"),
        ("--a -- --b c", ("--a",), "--b c"),
        ("--a --", ("--a",), ""),
        ("--a", ("--a",), ""),
        ("-a b", (), "-a b"),
        ("--a b --c", ("--a",), "b --c"),
        ("--a=$x b", ("--a=$x",), "b"),
        ("--a='$x y' b", ("--a=$x y",), "b"),
        ('--a="b c', ("--a=b c",), ""),
        ("--a\\", ("--a",), ""),
        ("---a b", ("---a",), "b"),
    ],
)
def test_take_flags(text: str, flags: tuple[str, ...], rest: str) -> None:
    assert words.take_flags(text, "\\") == (flags, rest)


def test_take_flags_honours_the_escape_directive() -> None:
    assert words.take_flags("--a=b` c d", "`") == (("--a=b c",), "d")
    assert words.take_flags("--a=C:\\x d", "`") == (("--a=C:\\x",), "d")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", words.Opener("EOF", True, False, "")),
        ("<<-EOF", words.Opener("EOF", True, True, "")),
        ("3<<EOF", words.Opener("EOF", True, False, "3")),
        ("12<<-EOF", words.Opener("EOF", True, True, "12")),
        ("<<'EOF'", words.Opener("EOF", False, False, "")),
        ('<<"EOF"', words.Opener("EOF", False, False, "")),
        ("<<E'O'F", words.Opener("EOF", False, False, "")),
        ("<<\\EOF", words.Opener("EOF", False, False, "")),
        ("<<-'a b'", words.Opener("a b", False, True, "")),
        ("<<--EOF", words.Opener("-EOF", True, True, "")),
        ("<<$EOF", words.Opener("$EOF", True, False, "")),
        ("<<EOF>file", words.Opener("EOF>file", True, False, "")),
        ("<<ä", words.Opener("ä", True, False, "")),
        ("<<<EOF", None),
        ("<<", None),
        ("<<-", None),
        ("a<<EOF", None),
        ("<EOF", None),
        ("<<a<b", None),
        ("<<a b", None),
        ("<<'a", None),
        ("٣<<EOF", None),
    ],
)
def test_heredoc_opener(word: str, expected: words.Opener | None) -> None:
    assert words.heredoc_opener(word) == expected


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("RUN <<EOF", ["EOF"]),
        ("RUN <<A <<B", ["A", "B"]),
        ("RUN cat <<A > /x && cat 3<<-B", ["A", "B"]),
        ("RUN cat << EOF > /x", ["EOF"]),
        ("RUN cat << 'EOF' > /x", ["EOF"]),
        ("RUN cat <<- EOF", ["EOF"]),
        ("RUN cat <<", []),
        ("RUN echo $((1 << 2))", []),
        ("RUN echo $((1<<2))", []),
        ("RUN echo 1 << n)", []),
        ("RUN cat <<<word", []),
        ('RUN echo "<<EOF"', []),
        ("RUN echo '<<EOF'", []),
        ("RUN echo \\<<EOF", []),
        ('RUN echo "a <<EOF', []),
        ("RUN echo it's <<EOF", []),
        ("RUN echo ${x:-a <<EOF}", []),
        ("RUN echo ${x <<EOF", ["EOF"]),
        ("RUN x=$(cat <<EOF", ["EOF"]),
        ("RUN a<<EOF", []),
        ('RUN echo "a \\" <<X" <<Y', ["Y"]),
    ],
)
def test_heredoc_openers(line: str, names: list[str]) -> None:
    assert [opener.name for opener in words.heredoc_openers(line)] == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", ()),
        ("[ ]", ()),
        ('["a"]', ("a",)),
        ('[ "a" , "b" ]', ("a", "b")),
        ('["a","b"]', ("a", "b")),
        (r'["a\"b"]', ('a"b',)),
        (r'["a\n\u00e9\/"]', ("a\n\u00e9/",)),
        (r'["\ud83d\ude00"]', ("\U0001f600",)),
        (r'["\ud83d"]', ("\ufffd",)),
        (r'["\ud83dx\ude00"]', ("\ufffdx\ufffd",)),
        (r'["\ude00\ud83d\\"]', ("\ufffd\ufffd\\",)),
        (r'["\u12"]', None),
        (r'["\u+123"]', None),
        (r'["\"]', None),
        (r'["\\"]', ("\\",)),
        (r'["\\\"", "b"]', ('\\"', "b")),
        (r'["\u0000"]', ("\0",)),
        ('["a b", ""]', ("a b", "")),
        ('["ä"]', ("ä",)),
        ("['a']", None),
        ('["a"', None),
        ('["a",]', None),
        ('["a"] b', None),
        ('["a" "b"]', None),
        ('["a"]]', None),
        ("[", None),
        ("[]x", None),
        ('["a\tb"]', None),
        (r'["\x"]', None),
        ("[a]", None),
        ("[NaN]", None),
        ("[1e999]", None),
        ("[ -x ]", None),
        ('["a]', None),
        ("[01]", None),
    ],
)
def test_json_strings(text: str, expected: tuple[str, ...] | None) -> None:
    assert words.json_strings(text) == expected


@pytest.mark.parametrize(
    "text", ["[1]", '["a", 1]', "[null]", "[true]", '[["a"]]', '[{"a": "b"}]', "[1.5e3]"]
)
def test_json_of_other_things_than_strings(text: str) -> None:
    with pytest.raises(ValueError, match="strings only"):
        words.json_strings(text)


def test_deeply_nested_json_is_no_crash() -> None:
    assert words.json_strings("[" * 100_000) is None


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_json_strings_reads_what_json_writes(strings: list[str]) -> None:
    import json

    assert words.json_strings(json.dumps(strings)) == tuple(strings)
    assert words.json_strings(json.dumps(strings, ensure_ascii=False)) == tuple(strings)


@given(st.text(), st.sampled_from("\\`"))
def test_splitting_never_fails_and_loses_nothing_but_white_space(text: str, escape: str) -> None:
    kept = "".join(words.split_quoted(text, escape))
    assert kept in text or all(char in text for char in kept)
    words.take_flags(text, escape)
    words.heredoc_openers(text)
