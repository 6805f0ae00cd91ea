"""The examples and what their test.json files say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.people import KINDS
from tests.support.program import REPOSITORY

FOLDER = REPOSITORY / "examples" / "Dockerfiles"


class Example(NamedTuple):
    """One folder. ``builds`` are test.json's, in order; ``kinds`` are the users who can build and run it."""

    name: str
    folder: Path
    kinds: tuple[str, ...]
    builds: tuple[dict[str, Any], ...]


def examples() -> list[Example]:
    found = []
    for folder in sorted(path.parent for path in FOLDER.glob("*/test.json")):
        told = json.loads((folder / "test.json").read_text())
        found.append(
            Example(folder.name, folder, tuple(told.get("identities", KINDS)), tuple(told["builds"]))
        )
    return found
