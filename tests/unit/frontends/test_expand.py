"""Word expansion: Dockerfile reference, "Environment replacement", operator by operator."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.expand import (
    MAX_GROWTH,
    ExpansionError,
    expand,
    expand_heredoc,
    split_expand,
    split_expansion,
    unquote,
)

ENV = {
    "x": "value",
    "e": "",
    "foo": "abc",
    "path": "/usr/local/lib/a.tar.gz",
    "dots": "a.b.c.d",
    "star": "a*b?c",
    "glob": "*",
    "slash": "a/b/c",
    "brace": "a}b",
    "back": "a\\b",
    "o": "foofoo",
    "two": "one two",
    "Ä": "umlaut",
    "x1": "digit",
    "_u": "under",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # plain forms
        ("", ""),
        ("abc", "abc"),
        ("$x", "value"),
        ("${x}", "value"),
        ("a$x-b", "avalue-b"),
        ("a${x}b", "avalueb"),
        ("$x$x", "valuevalue"),
        ("$x1", "digit"),
        ("$_u", "under"),
        ("$Ä", "umlaut"),
        ("$x.y", "value.y"),
        ("$x/y", "value/y"),
        ("$unset", ""),
        ("a${unset}b", "ab"),
        ("$e", ""),
        ("$two", "one two"),
        ("$star", "a*b?c"),
        ("$back", "a\\b"),
        # what is no variable
        ("$", "$"),
        ("a$", "a$"),
        ("$ x", "$ x"),
        ("$/x", "$/x"),
        ("$.", "$."),
        ("a$=b", "a$=b"),
        ("$%", "$%"),
        # special parameters are never set
        ("$1", ""),
        ("$12", ""),
        ("$1x", "x"),
        ("$@", ""),
        ("$*", ""),
        ("$#", ""),
        ("$?", ""),
        ("$-", ""),
        ("$$", ""),
        ("$!", ""),
        ("$0", ""),
        ("${1}", ""),
        ("${1:-one}", "one"),
        ("${@}", ""),
        # quotes
        ("'$x'", "$x"),
        ("'${x}'", "${x}"),
        ('"$x"', "value"),
        ('"${x}"', "value"),
        ("'a b'", "a b"),
        ('"a b"', "a b"),
        ("a'b'c", "abc"),
        ("''", ""),
        ('""', ""),
        ("\"'$x'\"", "'value'"),
        ("'\"$x\"'", '"$x"'),
        ("'a\\b'", "a\\b"),
        ("'\\'", "\\"),
        # escapes
        (r"\$x", "$x"),
        (r"\${x}", "${x}"),
        (r"\\$x", r"\value"),
        (r"\\\$x", r"\$x"),
        (r"\a", "a"),
        (r"a\ b", "a b"),
        (r"\"", '"'),
        (r"\'", "'"),
        (r"\\", "\\"),
        ("a\\", "a"),
        (r'"\$x"', "$x"),
        (r'"\""', '"'),
        (r'"\\"', "\\"),
        (r'"\a"', r"\a"),
        (r'"\n"', r"\n"),
        (r'"\${x}"', "${x}"),
        (r'"a\`b"', r"a\`b"),
        # default
        ("${x:-w}", "value"),
        ("${x-w}", "value"),
        ("${unset:-w}", "w"),
        ("${unset-w}", "w"),
        ("${e:-w}", "w"),
        ("${e-w}", ""),
        ("${unset:-}", ""),
        ("${unset:-a b}", "a b"),
        ("${unset:-$x}", "value"),
        ("${unset:-${x}}", "value"),
        ("${unset:-${gone:-deep}}", "deep"),
        ("${unset:-a${x}b}", "avalueb"),
        ("${unset:-'$x'}", "$x"),
        ('${unset:-"$x y"}', "value y"),
        (r"${unset:-\$x}", "$x"),
        (r"${unset:-a\}b}", "a}b"),
        ("${unset:-'}'}", "}"),
        ("${unset:-:-}", ":-"),
        ("${unset:-/usr/bin}", "/usr/bin"),
        ('"${unset:-a b}"', "a b"),
        ('"${unset:-"a b"}"', "a b"),
        # alternative
        ("${x:+w}", "w"),
        ("${x+w}", "w"),
        ("${unset:+w}", ""),
        ("${unset+w}", ""),
        ("${e:+w}", ""),
        ("${e+w}", "w"),
        ("${x:+$foo}", "abc"),
        ("${x:+${foo}-${x}}", "abc-value"),
        ("${x:+}", ""),
        # errors that don't happen
        ("${x:?m}", "value"),
        ("${x?m}", "value"),
        ("${e?m}", ""),
        # shortest and longest prefix
        ("${path#*/}", "usr/local/lib/a.tar.gz"),
        ("${path##*/}", "a.tar.gz"),
        ("${dots#*.}", "b.c.d"),
        ("${dots##*.}", "d"),
        ("${dots#a}", ".b.c.d"),
        ("${dots#b}", "a.b.c.d"),
        ("${dots#?}", ".b.c.d"),
        ("${dots#??}", "b.c.d"),
        ("${dots##*}", ""),
        ("${dots#*}", "a.b.c.d"),
        ("${dots#}", "a.b.c.d"),
        ("${dots##}", "a.b.c.d"),
        ("${unset#a}", ""),
        ("${e#*}", ""),
        ("${foo#$foo}", ""),
        ("${foo#${unset:-a}}", "bc"),
        ("${foo#$glob}", "abc"),
        ("${foo##$glob}", ""),
        ("${foo#'a'}", "bc"),
        ('${foo#"ab"}', "c"),
        # shortest and longest suffix
        ("${path%.*}", "/usr/local/lib/a.tar"),
        ("${path%%.*}", "/usr/local/lib/a"),
        ("${path%/*}", "/usr/local/lib"),
        ("${path%%/*}", ""),
        ("${dots%?}", "a.b.c."),
        ("${dots%d}", "a.b.c."),
        ("${dots%c}", "a.b.c.d"),
        ("${dots%%*}", ""),
        ("${dots%*}", "a.b.c.d"),
        ("${dots%.d}", "a.b.c"),
        # escapes in patterns
        (r"${star#a\*}", "b?c"),
        (r"${star%\?c}", "a*b"),
        (r"${star#a\?}", "a*b?c"),
        (r"${back#a\\}", "b"),
        (r"${brace#a\}}", "b"),
        (r"${slash#a\/}", "b/c"),
        ("${slash#a/}", "b/c"),
        # replacement
        ("${o/foo/bar}", "barfoo"),
        ("${o//foo/bar}", "barbar"),
        ("${o/x/y}", "foofoo"),
        ("${o//x/y}", "foofoo"),
        ("${o/o/0}", "f0ofoo"),
        ("${o//o/0}", "f00f00"),
        ("${o/o*/X}", "fX"),
        ("${o//o*/X}", "fX"),
        ("${o/f?o/X}", "Xfoo"),
        ("${o//f?o/X}", "XX"),
        ("${o/foo/}", "foo"),
        ("${o//o/}", "ff"),
        ("${o/foo/$x}", "valuefoo"),
        ("${o/foo/${x}}", "valuefoo"),
        ("${o//$unset/}", "foofoo"),
        ("${o/$foo/x}", "foofoo"),
        ("${o/'foo'/x}", "xfoo"),
        ("${o/foo/a b}", "a bfoo"),
        (r"${slash/\//-}", "a-b/c"),
        (r"${slash//\//-}", "a-b-c"),
        (r"${o/foo/a\}b}", "a}bfoo"),
        (r"${o/foo/a\/b}", "a/bfoo"),
        ("${o/foo/a/b}", "a/bfoo"),
        (r"${star/\*/x}", "axb?c"),
        ("${star//?/x}", "xxxxx"),
        ("${o//*/X}", "X"),
        ("${unset/a/b}", ""),
        ("${e//a/b}", ""),
        ('"${o/foo/bar}"', "barfoo"),
        ("${o/foo/'$x'}", "$xfoo"),
        # $1 in a replacement is no group
        ("${o/foo/'$1'}", "$1foo"),
    ],
)
def test_expand(word: str, expected: str) -> None:
    assert expand(word, ENV).text == expected


@pytest.mark.parametrize(
    ("word", "message", "offset"),
    [
        ("${", "missing '}'", 0),
        ("a${x", "missing '}'", 1),
        ("${x:", "missing '}'", 0),
        ("${x:-", "missing '}'", 0),
        ("${x:-a", "missing '}'", 0),
        ("${unset:-${x}", "missing '}'", 0),
        ("${x#a", "missing '}'", 0),
        ("${x%a", "missing '}'", 0),
        ("${x/a", "missing '/'", 0),
        ("${x/a}", "missing '/'", 0),
        ("${x//a}", "missing '/'", 0),
        ("${x/a/b", "missing '}'", 0),
        ("${}", "bad substitution", 0),
        ("${:-x}", "bad substitution", 0),
        ("${{x}}", "bad substitution", 0),
        ("${ x}", "bad substitution", 0),
        ("${.}", "bad substitution", 0),
        ("a ${x!y}", "unsupported modifier (!)", 5),
        ("${x:x}", "unsupported modifier (:x)", 3),
        ("${x:#y}", "unsupported modifier (:#)", 3),
        ("${x:%y}", "unsupported modifier (:%)", 3),
        ("${x:/y/z}", "unsupported modifier (:/)", 3),
        ("${x@Q}", "unsupported modifier (@)", 3),
        ("${x^^}", "unsupported modifier (^)", 3),
        ("${x,,}", "unsupported modifier (,)", 3),
        ("${x=y}", "unsupported modifier (=)", 3),
        ("${x:=y}", "unsupported modifier (:=)", 3),
        ("${#x}", "unsupported modifier (x)", 3),
        ("${x y}", "unsupported modifier ( )", 3),
        ("${x:1:2}", "unsupported modifier (:1)", 3),
        ("${unset?}", "unset: is not allowed to be unset", 0),
        ("${unset:?}", "unset: is not allowed to be unset", 0),
        ("${e:?}", "e: is not allowed to be empty", 0),
        ("${unset?give it}", "unset: give it", 0),
        ("${unset:?a $x}", "unset: a value", 0),
        ("a${e:?m}", "e: m", 1),
        ("'a", "single quote", 0),
        ("a'", "single quote", 1),
        ('"a', "double quote", 0),
        ('a"b\\"', "double quote", 1),
        ('"', "double quote", 0),
        ("${unset:-'a}", "single quote", 9),
        (r"${x#\a}", r"invalid escape \a", 4),
        (r"${x/\a/b}", r"invalid escape \a", 4),
        (r"${x//\a/b}", r"invalid escape \a", 5),
        (r"${x%%\$}", r"invalid escape \$", 4),
    ],
)
def test_errors(word: str, message: str, offset: int) -> None:
    with pytest.raises(ExpansionError) as caught:
        expand(word, ENV)
    assert message in caught.value.message
    assert caught.value.offset == offset
    assert isinstance(caught.value, DockerfileError)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("`$x", "$x"),
        ("`${x}", "${x}"),
        (r"C:\$x", r"C:\value"),
        (r"C:\dir", r"C:\dir"),
        ("a` b", "a b"),
        ("``$x", "`value"),
        ('"`$x"', "$x"),
        ('"`"', None),
        ('"``"', "`"),
        (r'"\$x"', r"\value"),
        ("'`$x'", "`$x"),
        ("${unset:-a`}b}", "a}b"),
        ("${star#a`*}", "b?c"),
        ("${back#a\\}", "b"),
    ],
)
def test_backtick_as_escape_character(word: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ExpansionError):
            expand(word, ENV, "`")
    else:
        assert expand(word, ENV, "`").text == expected


@pytest.mark.parametrize(
    ("word", "used", "unset"),
    [
        ("plain", (), ()),
        ("$x", ("x",), ()),
        ("$a$x$b$a", ("a", "x", "b"), ("a", "b")),
        ("${a}", ("a",), ("a",)),
        ("${a:-w}", ("a",), ()),
        ("${a-$b}", ("a", "b"), ("b",)),
        ("${a:+w}", ("a",), ()),
        ("${a#w}", ("a",), ("a",)),
        ("${a/w/$b}", ("a", "b"), ("b", "a")),
        ("'$a'", (), ()),
        (r"\$a", (), ()),
        ('"$a"', ("a",), ("a",)),
        ("$", (), ()),
    ],
)
def test_names_that_were_used(word: str, used: tuple[str, ...], unset: tuple[str, ...]) -> None:
    expansion = expand(word, ENV)
    assert (expansion.used, expansion.unset) == (used, unset)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("\"$x\" '$x'", "\"value\" '$x'"),
        (r"\$x $x", r"\$x value"),
        (r'"a\"b"', r'"a\"b"'),
        ('${unset:-"a"}', '"a"'),
    ],
)
def test_keeping_quotes(word: str, expected: str) -> None:
    assert expand(word, ENV, keep_quotes=True).text == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", ["80"]),
        ("$ports", ["80", "81/udp"]),
        ("${ports}", ["80", "81/udp"]),
        ('"$ports"', ["80 81/udp"]),
        ("a$ports", ["a80", "81/udp"]),
        ("$unset", []),
        ('""', [""]),
        ("''", [""]),
        (r"a\ b", ["a b"]),
        ("'a b'", ["a b"]),
        ("$blank", []),
        ("a$blank", ["a"]),
        ("${unset:-1 2}", ["1", "2"]),
        ("$ports$ports", ["80", "81/udp80", "81/udp"]),
    ],
)
def test_split_expand(word: str, expected: list[str]) -> None:
    env = {"ports": "80 81/udp", "blank": " \t\n"}
    assert split_expand(word, env) == expected
    assert list(split_expansion(word, env).words) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n", "a\n"),
        ("\"$x\" '$x'\n", "\"value\" 'value'\n"),
        ("it's $x\n", "it's value\n"),
        (r"\$x", "$x"),
        (r"\\", "\\"),
        (r"\\$x", r"\value"),
        ("a\\\nb", "ab"),
        ("a\\\\\nb", "a\\\nb"),
        ('${x:-"a"}', "value"),
        ("${unset:-'a'}", "'a'"),
        ("$unset$x", "value"),
        ("$5.00 $ $.", ".00 $ $."),
        ("{}", "{}"),
    ],
)
def test_expand_heredoc(text: str, expected: str) -> None:
    assert expand_heredoc(text, ENV).text == expected


def test_heredocs_honour_the_escape_directive() -> None:
    assert expand_heredoc(r"C:\$x `$x", ENV, "`").text == r"C:\value $x"


def test_heredoc_errors() -> None:
    with pytest.raises(ExpansionError):
        expand_heredoc("a\n${x", ENV)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a", "a"),
        ('"a b"', "a b"),
        ("'a b'", "a b"),
        (r"a\ b", "a b"),
        ("$x", "$x"),
        ('"$x"', "$x"),
        ("${x", "${x"),
        (r"\$x", "$x"),
        (r'"\n"', r"\n"),
    ],
)
def test_unquote(word: str, expected: str) -> None:
    assert unquote(word) == expected


def test_unquote_errors() -> None:
    with pytest.raises(ExpansionError):
        unquote('"a')


def test_growth_is_bounded() -> None:
    env = {"a": "x" * 100_000}
    assert len(expand("$a$a", env).text) == 200_000
    for word in ("$a" * 1000, '"' + "$a" * 1000 + '"', "${a//x/$a}", "${u:-" + "$a" * 1000 + "}"):
        with pytest.raises(ExpansionError, match=f"{MAX_GROWTH:,}"):
            expand(word, env)


def test_a_long_heredoc_is_no_growth() -> None:
    text = "a\\$b\n" * 200_000
    assert expand_heredoc(text, {}).text == "a$b\n" * 200_000


def test_nesting_is_bounded() -> None:
    assert expand("${a:-" * 40 + "x" + "}" * 40, {}).text == "x"
    for word in ("${a:-" * 20_000, "${a:-" * 20_000 + "}" * 20_000, '"${a:-' * 20_000):
        with pytest.raises(ExpansionError):
            expand(word, {})


@pytest.mark.parametrize(
    "word",
    ["a" * 65535, "$" * 65535, "'a'" * 21845, '"' * 65534, "\\a" * 32767, "${a}" * 16383, "$a " * 21845],
)
def test_time_is_linear(word: str) -> None:
    start = time.process_time()
    expand(word, {"a": "b"})
    assert time.process_time() - start < 1


TEXT = st.text(st.one_of(st.sampled_from("$${}{}:-+?#%/\\`'\"xe \n*?ab"), st.characters()), max_size=40)


@given(TEXT, st.sampled_from("\\`"))
@example("${x//", "\\")
@example('"${x:-"', "\\")
def test_only_expansion_errors(text: str, escape: str) -> None:
    for function in (expand, split_expand, expand_heredoc):
        try:
            function(text, ENV, escape)
        except ExpansionError as error:
            assert 0 <= error.offset <= len(text)
    try:
        unquote(text, escape)
    except ExpansionError:
        pass


@given(st.text(st.characters(exclude_characters="$'\"\\")))
def test_text_without_marks_is_left_alone(text: str) -> None:
    assert expand(text, ENV).text == text
    assert expand_heredoc(text, ENV).text == text
    assert unquote(text) == text


@given(TEXT.filter(lambda text: "$" not in text))
def test_keeping_quotes_changes_nothing_without_variables(text: str) -> None:
    try:
        once = expand(text, {}, keep_quotes=True).text
    except ExpansionError:
        return
    assert once == text or text.endswith("\\")


@given(st.text(), st.text(st.characters(exclude_characters="'"), max_size=10))
def test_a_value_is_not_expanded_again(value: str, around: str) -> None:
    assert expand(f"'{around}'$v'{around}'", {"v": value}).text == around + value + around


@given(st.text())
def test_escaping_everything_gives_the_text(text: str) -> None:
    assert expand("".join("\\" + char for char in text), ENV).text == text
    assert expand("'" + text.replace("'", "'\\''") + "'", ENV).text == text
