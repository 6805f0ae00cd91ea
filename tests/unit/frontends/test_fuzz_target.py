"""The fuzz target itself works: on the golden files, and on their mutations."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.fuzz_dockerfile import one_input

FILES = sorted((Path(__file__).parents[2] / "fixtures" / "parser").glob("*/Dockerfile"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_golden_files_and_mutations(file: Path) -> None:
    data = file.read_bytes()[:2000]
    one_input(data)
    dice = random.Random(file.parent.name)
    for _ in range(30):
        mutated = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            at = dice.randint(0, len(mutated))
            mutated[at : at + dice.randint(0, 3)] = dice.choice(
                [
                    b"",
                    b"\\",
                    b"`",
                    b"'",
                    b'"',
                    b"$",
                    b"${",
                    b"}",
                    b"\n",
                    b"<<E",
                    b"--",
                    b"[",
                    b"]",
                    b"\0",
                    b"\xff",
                    b" ",
                ]
            )
        one_input(bytes(mutated))
