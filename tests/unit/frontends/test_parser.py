"""The parser by golden folders (tests/fixtures/parser), and what JSON doesn't show."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.ast import Instruction, Range
from buildkit_py.frontends.dockerfile.dump import dump, dump_ast
from buildkit_py.frontends.dockerfile.parser import parse

GOLDEN = Path(__file__).parents[2] / "fixtures" / "parser"


def one(text: str) -> Instruction:
    """The last instruction of a file."""
    return parse(text.encode()).instructions[-1]


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/ast.json")))
def test_golden(case: str) -> None:
    expected = json.loads((GOLDEN / case / "ast.json").read_text("utf-8"))
    assert json.loads(dump(parse((GOLDEN / case / "Dockerfile").read_bytes()))) == expected


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/error.json")))
def test_golden_errors(case: str) -> None:
    expected = json.loads((GOLDEN / case / "error.json").read_text("utf-8"))
    with pytest.raises(DockerfileError) as caught:
        parse((GOLDEN / case / "Dockerfile").read_bytes(), "some/Dockerfile")
    error = caught.value
    found = {
        "message": error.message,
        "start": error.start,
        "end": error.end,
        "column": error.column,
        "hint": error.hint,
    }
    assert found == expected
    assert error.path == "some/Dockerfile"
    assert error.start <= len(error.lines)


def test_every_golden_folder_says_what_is_expected() -> None:
    for folder in GOLDEN.iterdir():
        assert (folder / "ast.json").exists() != (folder / "error.json").exists()


@pytest.mark.parametrize(
    ("line", "args"),
    [
        ("RUN a", ["a"]),
        ("run a", ["a"]),
        ("RUN\ta", ["a"]),
        ("RUN  a  b ", ["a  b"]),
        ("RUN a;b|c&d", ["a;b|c&d"]),
        ("RUN [a", ["[a"]),
        ("RUN []a", ["[]a"]),
        ('RUN "a"', ['"a"']),
        ("RUN a=b", ["a=b"]),
        ("RUN a #b", ["a #b"]),
        ("RUN\u00a0a", []),
        ("CMD ['a']", ["['a']"]),
        ("CMD a b", ["a b"]),
        ("ENTRYPOINT a 'b c'", ["a 'b c'"]),
        ("SHELL a b", ["a b"]),
        ("WORKDIR a b", ["a b"]),
        ("WORKDIR $a/${b}", ["$a/${b}"]),
        ('WORKDIR "/a b"', ['"/a b"']),
        ("USER a:b", ["a:b"]),
        ("STOPSIGNAL 9", ["9"]),
        ("MAINTAINER a <b>", ["a <b>"]),
        ("EXPOSE 1 2", ["1", "2"]),
        ("EXPOSE 1\t2", ["1", "2"]),
        ("EXPOSE $a ${b:-1 2}", ["$a", "${b:-1", "2}"]),
        ("VOLUME a b", ["a", "b"]),
        ('VOLUME "a b"', ['"a', 'b"']),
        ("COPY a b c", ["a", "b", "c"]),
        (r"COPY a\ b c", ["a\\", "b", "c"]),
        ("ADD a b", ["a", "b"]),
        ("FROM a AS b", ["a", "AS", "b"]),
        ('FROM "a"', ['"a"']),
        ("ENV a b", ["a", "b"]),
        ("ENV a  b ", ["a", "b"]),
        ("ENV a\tb\tc", ["a", "b\tc"]),
        ("ENV a=", ["a", ""]),
        ("ENV =a", ["", "a"]),
        ('ENV a=""', ["a", '""']),
        ("ENV a=$b c=${d:-e f}", None),
        ('ENV a="${d:-e f}"', ["a", '"${d:-e f}"']),
        ("ENV a='b' 'c=d'", ["a", "'b'", "'c", "d'"]),
        ("ENV 'a b' c", ["'a", "b' c"]),
        ("ENV a b=c d=e", ["a", "b=c d=e"]),
        ("ENV a=b c", None),
        ("LABEL a", None),
        ("LABEL a b", ["a", "b"]),
        ("LABEL a.b=c", ["a.b", "c"]),
        ("ARG a", ["a"]),
        ("ARG a b=c", ["a", "b=c"]),
        ("ARG a='b c'", ["a='b c'"]),
        ("ARG a=b\\ c", ["a=b\\ c"]),
        ("HEALTHCHECK", []),
        ("HEALTHCHECK CMD", ["CMD"]),
        ("HEALTHCHECK CMD  a  b", ["CMD", "a  b"]),
        ("HEALTHCHECK foo a", ["foo", "a"]),
        ("ONBUILD RUN a", []),
        ("ONBUILD", []),
        ("FOO a b", []),
        ('FOO ["a"]', []),
    ],
)
def test_arguments(line: str, args: list[str] | None) -> None:
    if args is None:
        with pytest.raises(DockerfileError):
            one(f"FROM x\n{line}\n")
    else:
        assert list(one(f"FROM x\n{line}\n").args) == args


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("RUN a\\\nb", "RUN ab"),
        ("RUN a \\\n b", "RUN a  b"),
        ("RUN a \\ \t\n b", "RUN a  b"),
        ("RUN a \\\n#c\n b", "RUN a  b"),
        ("RUN a \\\n  #c\n b", "RUN a  b"),
        ("RUN a \\\n\n b", "RUN a  b"),
        ("RUN a \\\n \t \n b", "RUN a  b"),
        ("RUN a \\\n\\\n b", "RUN a  b"),
        ("RUN a \\\n  \\\n b", "RUN a    b"),
        ("RUN a \\\\\nRUN b", "RUN b"),
        ("RUN a \\\r\n b\r\n", "RUN a  b"),
        ("\tRUN a \\\n\tb", "RUN a \tb"),
        ("RUN a \\\n\u00a0\nb", "RUN a b"),
    ],
)
def test_joined_lines(text: str, joined: str) -> None:
    assert one(text).text == joined


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("FROM a", 1, 1),
        ("\n\nFROM a\n\n", 3, 3),
        ("#\nFROM \\\n#\n\na\n", 2, 5),
        ("FROM a\n\\\n RUN b\n", 2, 3),
        ("FROM a\nRUN <<A\n\n\nA\n", 2, 5),
        ("FROM a\nRUN <<A \\\n b <<B\nA\nB\n", 2, 5),
        ("FROM a\nRUN b \\\n\n\n", 2, 4),
        ("#!x\n# escape=`\nFROM a\n", 3, 3),
    ],
)
def test_ranges(text: str, start: int, end: int) -> None:
    assert one(text).range == Range(start, end)


def test_comments_directly_above_belong_to_an_instruction() -> None:
    text = "# syntax=x\n# stage\n#  text  \nFROM a\n# other\n\n#b\n\t# c\nRUN d \\\n# inside\n e\nRUN f\n"
    comments = [instruction.comments for instruction in parse(text.encode()).instructions]
    assert comments == [("stage", "text"), ("b", "c"), ()]


def test_empty_continuations_warn() -> None:
    dockerfile = parse(b"FROM a\nRUN b \\\n\n c\nRUN d \\\n#\n e\nRUN f \\\n \n\n <<X\nX\n")
    assert [(w.rule, w.range) for w in dockerfile.warnings] == [
        ("NoEmptyContinuation", Range(2, 4)),
        ("NoEmptyContinuation", Range(8, 12)),
    ]


def test_directives() -> None:
    dockerfile = parse(b"#!x\n#SYNTAX = a b \n # check=skip=all;error=true\n# escape=`\nFROM a\n")
    assert dockerfile.directives == (
        ("syntax", "a b", 2),
        ("check", "skip=all;error=true", 3),
        ("escape", "`", 4),
    )
    assert dockerfile.escape == "`"


@pytest.mark.parametrize(
    "value",
    ["skip=all", "skip=A,B", "error=true", "error=0", "skip=A;error=True", "experimental=all", "skip="],
)
def test_check_options(value: str) -> None:
    assert parse(f"# check={value}\nFROM a\n".encode()).directives == (("check", value, 1),)


def test_written_and_text() -> None:
    instruction = one("FROM a\n oNbuild  RuN x  ")
    assert (instruction.written, instruction.name, instruction.text) == (
        "oNbuild",
        "onbuild",
        "oNbuild  RuN x",
    )
    sub = instruction.sub
    assert sub is not None
    assert (sub.written, sub.name, sub.text) == ("RuN", "run", "RuN x")


def test_heredoc_fd() -> None:
    assert [h.fd for h in one("FROM a\nRUN <<A 3<<B 10<<-C\nA\nB\nC\n").heredocs] == ["", "3", "10"]


def test_source_lines_are_kept_without_ends() -> None:
    dockerfile = parse("\ufeffFROM a\r\n\nRUN b\x0b\u2028c\n".encode())
    assert dockerfile.lines == ("FROM a", "", "RUN b\x0b\u2028c")


def test_dump_ast_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x.Dockerfile"
    file.write_bytes(b"FROM \xff\n")
    document = json.loads(dump_ast(str(file)))
    assert document["instructions"][0]["args"] == ["\ufffd"]
    with pytest.raises(DockerfileError) as caught:
        (tmp_path / "y").write_bytes(b"")
        dump_ast(str(tmp_path / "y"))
    assert caught.value.path == str(tmp_path / "y")


# Hostile files


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\0\0\0\0",
        b"FROM a\nRUN \0",
        b'FROM a\nCOPY ["\0"]',
        b"\x7fELF\x02\x01\x01\0\0",
        b"\xff\xfeF\0R\0O\0M\0",
        b"\xfe\xff\0F",
        b"FROM a\nRUN <<E\n\0\nE\n",
        b"RUN " + b"x" * (1 << 20),
        b"x" * (1 << 20),
        b"FROM a\nRUN <<E\n" + b"x" * (1 << 20) + b"\nE\n",
        b"FROM a\n# " + b"x" * 65534 + b"\n",
        b"FROM a\nRUN <<E",
        b"FROM a\nRUN <<E <<F <<G\nF\nE\n",
        b"ONBUILD " * 100 + b"RUN a",
        b"\n" * 100_000,
        b"\\\n" * 100_000,
        b"#\n" * 100_000,
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\r",
        b"ENV",
        b"FROM a\nENV a",
    ],
)
def test_hostile_files_give_one_clear_error(data: bytes) -> None:
    start = time.process_time()
    if data == b"ENV":
        assert parse(data).instructions[0].args == ()
        return
    with pytest.raises(DockerfileError) as caught:
        parse(data)
    assert time.process_time() - start < 1
    error = caught.value
    assert error.message and len(error.message) < 300
    assert 0 <= error.start <= error.end <= len(error.lines)
    assert sum(map(len, error.lines)) < 1 << 20


def test_nul_outside_instructions_is_harmless() -> None:
    parse(b"# \0\nFROM a\nCOPY <<E /x\n\0\nE\n")


def test_line_limit() -> None:
    fits = b"FROM a\nRUN " + b"x" * (65535 - 4)
    for end in (b"", b"\n", b"\nRUN b\n"):
        parse(fits + end)
        with pytest.raises(DockerfileError, match="65,535"):
            parse(fits + b"x" + end)


def test_a_joined_line_may_be_longer_than_the_limit() -> None:
    data = b"FROM a\nRUN " + (b"x" * 1000 + b"\\\n") * 1000 + b"y\n"
    assert len(parse(data).instructions[1].args[0]) == 1_000_001


@given(st.binary(max_size=400))
def test_only_dockerfile_errors(data: bytes) -> None:
    try:
        dump(parse(data))
    except DockerfileError:
        pass


WORDS = st.sampled_from(
    [
        *(
            "FROM",
            "RUN",
            "COPY",
            "ADD",
            "ENV",
            "LABEL",
            "ARG",
            "ONBUILD",
            "HEALTHCHECK",
            "CMD",
            "SHELL",
            "FOO",
        ),
        *(" ", " ", "\n", "\n", "\\\n", "\\", "`", "# escape=`\n", "#", "\t", "\r\n", "\0", "\v", "\u00a0"),
        *(
            "<<E",
            "<<-E",
            "<<'E'",
            "\nE\n",
            "E",
            "--a=b",
            "--",
            "a=b",
            "$x",
            "${",
            "}",
            '"',
            "'",
            '["a"]',
            "[",
            "]",
        ),
        *("NONE", "CMD", "--mount=type=bind", "--from=a", "AS", "b"),
    ]
)


@given(st.lists(WORDS, max_size=30).map("".join))
def test_only_dockerfile_errors_for_what_looks_like_one(text: str) -> None:
    try:
        dockerfile = parse(text.encode())
    except DockerfileError:
        return
    assert json.loads(dump(dockerfile))["instructions"]
    end = 0
    for instruction in dockerfile.instructions:
        assert end < instruction.range.start <= instruction.range.end <= len(dockerfile.lines)
        end = instruction.range.end


# Speed


def test_a_thousand_lines_are_fast() -> None:
    """Required: 50 ms on one core."""
    block = (
        "RUN --mount=type=cache,target=/x apt-get update && \\\n  apt-get install -y 'a b' \n"
        'ENV A=$B C="d e"\nCOPY --from=x a b /c/\nRUN <<EOF\na\nEOF\nCMD ["a", "b"]\nRUN echo hi\n# c\n'
    )
    data = ("FROM a\n" + block * 100).encode()
    assert data.count(b"\n") == 1001
    best = 1.0
    for _ in range(5):
        start = time.process_time()
        parse(data)
        best = min(best, time.process_time() - start)
    assert best < 0.05


@pytest.mark.parametrize(
    "unit",
    [
        "a\n",
        "RUN a\n",
        "RUN a \\\n",
        "RUN <<E\nE\n",
        "--a ",
        "<<E ",
        "${",
        "${x}",
        '"',
        "'",
        "\\ ",
        "\\",
        "[",
        '["a",',
        '"a",',
        "{",
        "a=b ",
        'a="b ',
        " ",
        "\t",
        "\n",
        "#\n",
        "ONBUILD ",
        "$",
        "1<<",
        "\u3000",
        "\r",
    ],
)
@pytest.mark.parametrize(
    "before", ["FROM a\n", "FROM a\nRUN ", "FROM a\nENV a=", "FROM a\nRUN [", "FROM a\nRUN <<E "]
)
def test_no_step_is_quadratic(unit: str, before: str) -> None:
    """64 KiB of each; anything quadratic in Python takes minutes."""
    data = (before + unit * (65000 // len(unit.encode()))).encode()
    start = time.process_time()
    try:
        dump(parse(data))
    except DockerfileError:
        pass
    assert time.process_time() - start < 2


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 5))
def test_long_joined_lines_are_not_quadratic(which: int) -> None:
    unit = ("--a=b ", "${ ", "<<E ", "\\\\ ", '"x" ')[which - 1]
    data = "FROM a\nRUN " + (unit * 1000 + "\\\n") * 100
    start = time.process_time()
    try:
        parse(data.encode())
    except DockerfileError:
        pass
    assert time.process_time() - start < 5
