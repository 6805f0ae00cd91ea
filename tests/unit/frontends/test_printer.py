"""Parse, print, parse again gives the same tree."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.ast import Instruction, Range
from buildkit_py.frontends.dockerfile.parser import parse
from buildkit_py.frontends.dockerfile.printer import print_dockerfile

GOLDEN = Path(__file__).parents[2] / "fixtures" / "parser"


def _meaning(instruction: Instruction) -> Instruction:
    """Without the place and the spelling."""
    sub = None if instruction.sub is None else _meaning(instruction.sub)
    return instruction._replace(range=Range(0, 0), text="", sub=sub)


def round_trip(data: bytes) -> str:
    first = parse(data)
    text = print_dockerfile(first)
    second = parse(text.encode())
    assert [_meaning(i) for i in second.instructions] == [_meaning(i) for i in first.instructions], text
    assert [d[:2] for d in second.directives] == [d[:2] for d in first.directives]
    assert second.escape == first.escape
    assert print_dockerfile(second) == text
    return text


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/ast.json")))
def test_golden_files(case: str) -> None:
    round_trip((GOLDEN / case / "Dockerfile").read_bytes())


def test_the_canonical_form() -> None:
    text = (
        "# syntax=docker/dockerfile:1\n\n# base\nFROM a as b\nrun --mount='type=cache',target=/x "
        "  a \\\n  && b\n"
        'ENV a b\nENV c d e\nCOPY <<E   x /y/\n1\nE\nCMD ["a","b"]\nONBUILD   ADD -- --a b\n'
    )
    assert round_trip(text.encode()) == (
        "# syntax=docker/dockerfile:1\n\n# base\nFROM a as b\nrun --mount=type=cache,target=/x a   && b\n"
        'ENV a=b\nENV c d e\nCOPY <<E x /y/\n1\nE\nCMD ["a", "b"]\nONBUILD ADD -- --a b\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN x \\\v\nRUN y\n",
        "FROM a\nCOPY \\\t  <<E \\\n  /x\na\nE\n",
        "FROM a\nCOPY \\ <<E /x\n",
        "FROM a\nONBUILD COPY --from=b \\\t\t<<E /x\na\nE\n",
        "FROM a\nENV a b\\\v\n",
        "FROM a\nFOO\\\v\n",
        'FROM a\nCOPY ["a",\v"b"]\n',
        'FROM a\nCOPY -- ["a", 1]x b\n',
        'FROM a\nRUN ["\\u0000\\n"]\n',
        'FROM a\nRUN --a="b\'c d" e\n',
        "FROM a\nRUN --a=b\\\\c\\ d e\n",
        "FROM a\nRUN --'a b'=c d\n",
        "# escape=`\nFROM a\nRUN --a='b <<E' c\n",
        "FROM a\n\n# escape=`\n#\nRUN b\n",
        'FROM a\nENV "a b" c\n',
        'FROM a\nENV "a=b" c=d\n',
        'FROM a\nENV a "b\n',
        "FROM a\nHEALTHCHECK --interval=1s CMD -- --x\n",
        'FROM a\nRUN <<""\nx\n\n',
        "FROM a\nRUN <<E\na\r\nE\n",
        "FROM a\n\u3000RUN a\u00a0b\n",
        "FROM a\nFOO\u00a0 x\n",
    ],
)
def test_awkward_files(text: str) -> None:
    round_trip(text.encode())


PIECES = st.sampled_from(
    [
        *(
            "RUN ",
            "COPY ",
            "ENV ",
            "LABEL ",
            "ARG ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "CMD ",
            "EXPOSE ",
            "FOO ",
            "USER ",
        ),
        *(
            "\nRUN ",
            "\nENV ",
            "\nCOPY ",
            "\nONBUILD RUN ",
            "\nCMD ",
            "\n",
            " ",
            "\t",
            "\v",
            "\\\n",
            "\\",
            "\\ ",
        ),
        *(
            "a",
            "a=b",
            'c="d e"',
            "f='g h'",
            "--x",
            "--y=z",
            '--q="r s"',
            "--",
            "<<E\nE\n",
            "<<-'E'\n\tx\nE\n",
        ),
        *(
            '["a"]',
            '["a", "b c"]',
            "[",
            "]",
            '"',
            "'",
            "$x",
            "# c\n",
            "\n# d\n",
            "é",
            "\u00a0",
            "\r\n",
            "NONE",
        ),
    ]
)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_round_trip(text: str) -> None:
    data = ("FROM a\n" + text).encode()
    try:
        parse(data)
    except DockerfileError:
        return
    round_trip(data)
