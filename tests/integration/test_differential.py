"""The examples by buildah and by pybuild: the same but for what docs/differences.md explains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.examples import Example, examples
from tests.support.people import Person
from tests.support.program import REPOSITORY
from tests.support.registry import Registry
from tests.support.runner import Pybuild
from tests.support.trees import differences, read_archive

TABLES = REPOSITORY / "docs" / "differences.md"


class Row(NamedTuple):
    example: str
    what: str
    why: str


def table(heading: str) -> list[Row]:
    """The rows below a heading of docs/differences.md; a table of two columns has no ``what``."""
    section = TABLES.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\|(.+)\|$", section, re.MULTILINE)[2:]
    cells = [[cell.strip().strip("`") for cell in row.split("|")] for row in rows]
    return [Row(row[0], row[1] if len(row) > 2 else "", row[-1]) for row in cells]


COMPARED = [
    example for example in examples() if example.name not in {row.example for row in table("Not compared")}
]
USED: set[Row] = set()
SEEN: set[str] = set()


def covered(example: str, what: str, rows: list[Row]) -> bool:
    found = [row for row in rows if fnmatchcase(example, row.example) and fnmatchcase(what, row.what)]
    USED.update(found)
    return bool(found)


@pytest.fixture(scope="module")
def buildah(workshop: Path, bases: Registry) -> Iterator[Callable[..., str]]:
    """Runs buildah with a store of its own."""
    place = workshop / "buildah"
    place.mkdir()
    environment = {
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        "HOME": str(place),
        "TMPDIR": str(place),
        "CONTAINERS_REGISTRIES_CONF": str(bases.containers_conf),
    }

    def run(*words: str | Path) -> str:
        argv = ["buildah", f"--root={place}/store", f"--runroot={place}/run", *map(str, words)]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=600)
        assert done.returncode == 0, f"{argv}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    yield run
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.needs("buildah", "root")
@pytest.mark.parametrize("example", COMPARED, ids=lambda example: example.name)
def test_same_as_buildah(
    example: Example,
    kept: Callable[[str], Pybuild],
    buildah: Callable[..., str],
    host_flags: Callable[[Person], list[str]],
) -> None:
    SEEN.add(example.name)
    pybuild = kept("root")
    context = pybuild.copy(example.folder)
    build = next(build for build in example.builds if "target" not in build)
    words = [*build.get("arguments", []), *host_flags(pybuild.person)]
    ours, theirs = pybuild.out / "ours.tar", pybuild.out / "theirs.tar"
    pybuild("build", "-t", "compared", "-o", f"type=docker,dest={ours}", *words, context)
    # No namespaces of its own: crun and runc refuse some machines' cgroups, and nothing here depends on them.
    isolation = ["--isolation=chroot", "--network=host", "--format=docker", "--layers=false"]
    buildah("build", *isolation, "-t", "localhost/compared:1", *words, context)
    theirs.unlink(missing_ok=True)
    buildah("push", "localhost/compared:1", f"docker-archive:{theirs}")
    mine, other = read_archive(ours), read_archive(theirs)
    left = {
        path: what
        for path, what in differences(mine.tree, other.tree, ("pybuild", "buildah")).items()
        if not covered(example.name, path, table("Files"))
    }
    assert not left, "\n".join(f"{path}: {what}" for path, what in list(left.items())[:60])
    assert not config_differences(example.name, mine.config["config"], other.config["config"])
    for key in ("architecture", "os"):
        assert mine.config[key] == other.config[key]


def config_differences(example: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    flat_ours, flat_theirs = _flat(ours), _flat(theirs)
    return [
        f"{key}: {flat_ours.get(key)!r} / {flat_theirs.get(key)!r}"
        for key in sorted(flat_ours.keys() | flat_theirs.keys())
        if flat_ours.get(key) != flat_theirs.get(key) and not covered(example, key, table("Config"))
    ]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Objects taken apart to Key.Key; empty values are as good as absent ones."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value and key not in ("Volumes", "ExposedPorts"):
            flat.update(_flat(value, f"{prefix}{key}."))
        elif key == "Env":
            # A set of settings: builders write them in different order.
            flat[prefix + key] = sorted(value or ())
        elif value not in (None, "", [], {}, False):
            flat[prefix + key] = value
    return flat


@pytest.mark.slow
@pytest.mark.needs("buildah", "root")
def test_no_row_explains_nothing() -> None:
    if len(SEEN) < len(COMPARED):
        return  # a part of the examples was asked for
    unused = [row for row in table("Files") + table("Config") if row not in USED]
    assert not unused
