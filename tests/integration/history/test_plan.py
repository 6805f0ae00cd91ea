"""``pybuild plan`` and ``build --dry-run``: they say what a build then does, and leave the store alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.registry import Registry
from tests.support.runner import Pybuild
from tests.support.web import Page, Repository, Web

DOCKERFILE = """\
FROM busybox AS build
ARG MODE=slow
WORKDIR /src
COPY src /src
RUN echo $MODE > /mode; cat a > /out
FROM busybox
COPY --from=build /out /app
RUN cat /app
"""
FILES: dict[str, str | bytes] = {"Dockerfile": DOCKERFILE, "src/a": "a\n", "src/b": "b\n"}
RUN = "[build 4/4] RUN echo $MODE > /mode; cat a > /out"
COPIED = "[stage-1 2/3] COPY --from=build /out /app"
LAST = "[stage-1 3/3] RUN cat /app"


def plan(pybuild: Pybuild, *words: str | Path, status: int) -> dict[str, Any]:
    before = contents(pybuild.store)
    document: dict[str, Any] = json.loads(pybuild("plan", "--format=json", *words, status=status).stdout)
    assert contents(pybuild.store) == before
    return document


def contents(store: Path) -> dict[str, str]:
    """Everything in a store: files by their digest, the index by its rows. The file on which commands lock
    holds nothing."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(store):
        for name in [*folders, *files]:
            path = Path(folder, name)
            key = str(path.relative_to(store))
            if name.startswith("index.db") or key == "lock":
                continue
            st = path.lstat()
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[key] = f"{st.st_mode:o} {st.st_uid} {hashlib.sha256(data).hexdigest()}"
    if (store / "index.db").exists():
        with sqlite3.connect(store / "index.db") as db:
            rows = [line for line in db.iterdump() if line.startswith("INSERT")]
            found["index.db"] = "\n".join(rows)
        db.close()
    return found


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["verdict"] for step in document["steps"]}


def ran(pybuild: Pybuild) -> set[str]:
    """The steps that ran in the last build."""
    document = json.loads(pybuild("history", "inspect", "--format=json").stdout)
    return {
        s["name"]
        for s in document["steps"]
        if s["op"] not in ("", "LocalSource", "InlineSource") and s["state"] == "ran"
    }


def test_all_is_cached(pybuild: Pybuild) -> None:
    here = pybuild.context(FILES)
    pybuild("build", here)
    document = plan(pybuild, here, status=0)
    assert document["cached"] and document["seconds"] == 0
    assert set(verdicts(document).values()) == {"cached"}
    assert document["pulls"] == []
    assert pybuild("build", "--dry-run", here).stdout.endswith("\nall is cached: 6 steps\n")


@pytest.mark.parametrize("change", ["file", "arg", "mode", "no-cache", "nothing it reads"])
def test_what_is_foreseen_happens(pybuild: Pybuild, change: str) -> None:
    here = pybuild.context(FILES)
    pybuild("build", here)
    words: list[str] = []
    match change:
        case "file":
            here = pybuild.context({**FILES, "src/a": "changed\n"})
        case "nothing it reads":
            here = pybuild.context({**FILES, "src/b": "changed\n"})
        case "mode":
            os.chmod(here / "src/b", 0o755)
        case "arg":
            words = ["--build-arg", "MODE=fast"]
        case _:
            words = ["--no-cache-filter", "build"]
    document = plan(pybuild, *words, here, status=3)
    foreseen = verdicts(document)
    pybuild("build", *words, here)
    happened = ran(pybuild)
    assert {name for name, verdict in foreseen.items() if verdict == "run"} <= happened
    assert not {name for name, verdict in foreseen.items() if verdict == "cached"} & happened
    assert foreseen[RUN] == "run"
    assert foreseen[COPIED] == foreseen[LAST] == "maybe"
    assert (LAST in happened) == (change == "file")
    assert document["seconds"] > 0
    steps = {step["name"]: step for step in document["steps"]}
    assert steps[RUN]["seconds"] > 0
    kinds = {"file": "step", "mode": "step", "arg": "arg", "no-cache": "no-cache"}
    assert kinds.get(change, "step") in [reason["kind"] for reason in steps[RUN]["reasons"]]


def test_in_words(pybuild: Pybuild) -> None:
    here = pybuild.context(FILES)
    pybuild("build", here)
    text = pybuild("plan", "--explain", "--build-arg", "MODE=fast", here, status=3).stdout
    assert re.search(r"^cached +\[build 3/4\] COPY src /src$", text, re.M)
    assert re.search(
        r"^run +[\d.]+s  \[build 4/4\] RUN .*\n +ARG MODE changed\n +- slow\n +\+ fast\n", text, re.M
    )
    assert re.search(r"^3 of 6 steps would run \(2 of them perhaps not\), in about [\d.]+s\n\Z", text, re.M)
    assert pybuild("plan", "-q", here).text == ""


def test_in_an_empty_store(pybuild: Pybuild) -> None:
    here = pybuild.context(FILES)
    pybuild("images")
    document = plan(pybuild, here, status=3)
    assert "cached" not in verdicts(document).values()
    assert {step["seconds"] for step in document["steps"]} == {None}
    (pull,) = document["pulls"]
    assert re.fullmatch(r"busybox@sha256:[0-9a-f]{64}", pull["image"])
    assert pull["layers"] == 1 and pull["size"] > 100_000
    text = pybuild("plan", here, status=3).stdout
    assert re.search(r"^pull +busybox \(linux/\w+\): 1 layer, [\d.]+[kM]B$", text, re.M)
    assert text.endswith("\n6 of 6 steps would run (2 of them perhaps not)\n")


def test_another_base_image(pybuild: Pybuild, bases: Registry, base_folder: Path) -> None:
    name = f"test/plan-{pybuild.person.kind}"
    bases.push_base(base_folder / "busybox", f"{name}:1")
    here = pybuild.context({"Dockerfile": f"FROM {bases.address}/{name}:1\nRUN echo hello\n"})
    pybuild("build", here)
    bases.push_base(base_folder / "debian", f"{name}:1")
    assert plan(pybuild, here, status=0)["pulls"] == []
    document = plan(pybuild, "--pull", here, status=3)
    assert set(verdicts(document).values()) == {"run"}
    assert len(document["pulls"]) == 1
    assert any(r["kind"] == "base" for step in document["steps"] for r in step["reasons"])


@pytest.mark.needs("git")
def test_remote_sources(pybuild: Pybuild, web: Web, repository: Repository) -> None:
    web.pages["/f"] = Page(b"one", headers={"ETag": '"1"'})
    repository.commit({"f": "1"})
    dockerfile = f"FROM busybox\nADD {web.url}/f /f\nADD {web.url}/a.git /g\nRUN cat /f\n"
    here = pybuild.context({"Dockerfile": dockerfile})
    pybuild("build", here)
    assert plan(pybuild, here, status=0)["cached"]
    assert web.answers[-1] == 304 or 304 in web.answers  # asked, and not fetched again
    web.pages["/f"] = Page(b"two", headers={"ETag": '"2"'})
    foreseen = verdicts(plan(pybuild, here, status=3))
    assert foreseen[f"[2/4] ADD {web.url}/f /f"] == "run"
    pybuild("build", here)
    assert {name for name, verdict in foreseen.items() if verdict == "run"} == ran(pybuild)
    repository.commit({"f": "2"})
    foreseen = verdicts(plan(pybuild, here, status=3))
    assert foreseen[f"[2/4] ADD {web.url}/f /f"] == "cached"
    assert foreseen[f"[3/4] ADD {web.url}/a.git /g"] == "maybe"


@pytest.mark.needs("git")
def test_a_context_from_a_repository(pybuild: Pybuild, web: Web, repository: Repository) -> None:
    repository.commit({"Dockerfile": "FROM busybox\nCOPY f /f\n", "f": "1"})
    pybuild("images")
    document = plan(pybuild, f"{web.url}/a.git", status=3)
    assert verdicts(document)["[2/2] COPY f /f"] in ("run", "maybe")
    pybuild("build", f"{web.url}/a.git")
    assert plan(pybuild, f"{web.url}/a.git", status=0)["cached"]


def test_a_mistake_shows_its_place(pybuild: Pybuild) -> None:
    here = pybuild.context({"Dockerfile": "FROM busybox\nCOPY missing /\n"})
    result = pybuild("plan", here, status=1)
    assert ">>> COPY missing /" in result.stderr
    assert "missing is not there" in result.stderr


def test_deep_stacks_of_layers(me: Pybuild) -> None:
    here = me.context(
        {"Dockerfile": "FROM busybox AS a\n" + "RUN echo >> /n\n" * 70 + "FROM a\nCOPY --from=a /n /m\n"}
    )
    me("build", here)
    assert plan(me, here, status=0)["cached"]


def test_a_shared_cache_is_read_and_nothing_of_it_fetched(pybuild: Pybuild) -> None:
    here = pybuild.context(FILES)
    cache = pybuild.out / "cache"
    pybuild("build", "--cache-to", f"type=local,dest={cache},mode=max", here)
    other = {"PYBUILD_ROOT": str(pybuild.folder / "other")}
    pybuild("images", env=other)
    before = contents(pybuild.folder / "other")
    pybuild("plan", here, env=other, status=3)
    pybuild("plan", "--cache-from", f"type=local,src={cache}", here, env=other)
    assert contents(pybuild.folder / "other") == before
