"""The Dockerfile language from end to end: every folder of tests/fixtures/language is built."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import golden, trees
from tests.support.people import available
from tests.support.runner import Pybuild


@pytest.fixture(scope="module")
def pybuild(kept: Callable[[str], Pybuild]) -> Pybuild:
    """As whoever runs the tests; all folders share one store."""
    return kept(available()[0])


@pytest.fixture(scope="module")
def base(pybuild: Pybuild) -> trees.Image:
    archive = pybuild.out / "base.tar"
    place = pybuild.context({"Dockerfile": "FROM busybox\n"}, "base")
    pybuild("build", "-o", f"type=docker,dest={archive}", place)
    return trees.read_archive(archive)


@pytest.mark.parametrize("name", golden.folders(available()[0]))
def test_language(name: str, pybuild: Pybuild, base: trees.Image) -> None:
    case = golden.load(name)
    place = golden.plant(name, case, pybuild.folder / "language")
    # PYBUILD_GOLDEN=write keeps what is seen now as what is expected.
    writing = os.environ.get("PYBUILD_GOLDEN") == "write"
    for number, wanted in enumerate(case["builds"]):
        seen = golden.build(pybuild, case, wanted, place, base)
        if writing:
            golden.fill(wanted, seen)
            golden.save(name, case)
        compare(wanted, seen, f"build {number + 1} of {name}")
    assert not pybuild.half_made()


def compare(wanted: golden.Json, seen: golden.Observed, which: str) -> None:
    output = seen.result.text
    status = wanted.get("status", 1 if "error" in wanted else 0)
    assert seen.result.status == status, f"{which}\n{output}"
    for text in wanted.get("log", ()):
        assert text in output, f"{which}: no {text!r} in\n{output}"
    for text in wanted.get("silent", ()):
        assert text not in output, f"{which}: {text!r} in\n{output}"
    for step in wanted.get("cached", ()):
        assert seen.ended(step) == "CACHED", f"{which}: {step}\n{output}"
    for step in wanted.get("ran", ()):
        assert seen.ended(step) == "DONE", f"{which}: {step}\n{output}"
    for text in wanted.get("stdout", ()):
        assert text in seen.result.stdout, f"{which}: no {text!r} in\n{output}"
    if "error" in wanted:
        error = seen.error
        if wanted["error"]["message"].endswith("…"):
            error["message"] = error["message"][: len(wanted["error"]["message"]) - 1] + "…"
        assert error == wanted["error"], f"{which}\n{output}"
        assert seen.image is None
        return
    assert seen.warnings == wanted.get("warnings", []), f"{which}\n{output}"
    if seen.image is None:
        return
    assert seen.tree(wanted.get("times", False)) == wanted["tree"], which
    assert seen.config == wanted["config"], which
    assert seen.history == wanted["history"], which
    for key, value in wanted.get("document", {}).items():
        assert seen.image.config.get(key) == value, f"{which}: {key}"


def test_the_folders_are_whole() -> None:
    for name in golden.folders():
        assert golden.load(name)["rule"], name
        names = {p.name for p in Path(golden.FOLDER / name).iterdir()}
        assert names == {"Dockerfile", "expected.json"}, name
