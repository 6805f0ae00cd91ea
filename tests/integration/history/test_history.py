"""``pybuild history``: what is kept of real builds, as each kind of user."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.support.runner import Pybuild

DOCKERFILE = """\
FROM busybox AS build
ARG MODE=slow
ARG API_TOKEN
COPY src /src
RUN echo "compiled $MODE"; seq 1 30000
FROM busybox
COPY --from=build /src /app
RUN --mount=type=secret,id=key wc -c < /run/secrets/key
"""


def context(pybuild: Pybuild) -> Path:
    return pybuild.context({"Dockerfile": DOCKERFILE, "src/a": "a\n", "key": "topsecretvalue\n"})


def inspected(pybuild: Pybuild, *build: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(pybuild("history", "inspect", "--format", "json", *build).stdout)
    return document


def build(pybuild: Pybuild, here: Path, *words: str | Path, status: int = 0) -> None:
    secret = ("--secret", f"id=key,src={here / 'key'}", "--build-arg", "API_TOKEN=tokenvalue")
    pybuild("build", *secret, *words, here, status=status)


def test_a_build_is_remembered(pybuild: Pybuild) -> None:
    here = context(pybuild)
    build(pybuild, here, "-t", "app")
    build(pybuild, here, "-t", "app")
    listed = pybuild("history", "ls").stdout.splitlines()
    assert listed[0].split() == ["BUILD", "ID", "NAME", "STATUS", "CREATED", "DURATION", "STEPS", "CACHED"]
    again, first = (line.split() for line in listed[1:])
    assert [first[1], first[2], *first[-2:]] == ["app", "completed", "5", "0"]
    assert [again[1], again[2], *again[-2:]] == ["app", "completed", "5", "5"]
    ids = pybuild("history", "ls", "-q").stdout.split()
    assert ids == [again[0], first[0]]

    document = inspected(pybuild, "^1")
    assert document["id"] == ids[1]
    assert document["inputs"]["context"] == str(here)
    assert document["inputs"]["args"] == {"API_TOKEN": None}
    assert document["inputs"]["secrets"] == ["key"]
    assert re.fullmatch(r"busybox@sha256:[0-9a-f]{64}", document["inputs"]["bases"][0])
    assert document["outputs"]["image"] == pybuild("inspect", "-f", "{{.Id}}", "app").stdout.strip()
    steps = {step["name"]: step for step in document["steps"]}
    run = steps['[build 3/3] RUN echo "compiled $MODE"; seq 1 30000']
    assert (run["state"], run["line"], run["stage"]) == ("ran", 5, "build")
    copy = steps["[build 2/3] COPY src /src"]
    assert run["inputs"] == [copy["digest"]]
    assert run["started"] >= copy["completed"] > copy["started"] >= document["started"]
    assert all(step["key"].startswith("sha256:") for step in steps.values() if step["op"])

    text = pybuild("history", "inspect", ids[1][:6]).stdout
    assert "Arguments:   API_TOKEN=(hidden)\n" in text
    assert re.search(r"^\d+ +ran +[\d.]+s +[\d.]+s +\d +\[build 2/3\] COPY src /src$", text, re.M)

    for place in pybuild.store.rglob("*"):
        if place.is_file() and ("history" in place.parts or place.name.startswith("index.db")):
            data = place.read_bytes()
            assert b"topsecretvalue" not in data
            assert b"tokenvalue" not in data


def test_logs(pybuild: Pybuild) -> None:
    here = context(pybuild)
    build(pybuild, here)
    whole = "compiled slow\n" + "".join(f"{n}\n" for n in range(1, 30001))
    assert pybuild("history", "logs", "^0", "RUN echo").stdout == whole
    number = next(s["number"] for s in inspected(pybuild)["steps"] if "RUN echo" in s["name"])
    assert pybuild("history", "logs", "^0", str(number)).stdout == whole
    everything = pybuild("history", "logs").stdout
    assert (
        f'#{number} [build 3/3] RUN echo "compiled $MODE"; seq 1 30000\n#{number} compiled slow\n'
        in everything
    )
    assert re.search(r"^#\d+ 15$", everything, re.M)  # of the secret's length
    missing = pybuild("history", "logs", "^0", "RUN make", status=1)
    assert "has no step 'RUN make'" in missing.stderr


def test_a_failed_build(pybuild: Pybuild) -> None:
    here = pybuild.context({"Dockerfile": "FROM busybox\nRUN echo reason; exit 3\nRUN never\n"})
    pybuild("build", here, status=1)
    document = inspected(pybuild)
    assert document["status"] == "failed"
    assert "exit code: 3" in document["error"]
    failed = next(step for step in document["steps"] if step["state"] == "failed")
    assert failed["name"] == "[2/3] RUN echo reason; exit 3"
    assert pybuild("history", "logs", "^0", str(failed["number"])).stdout == "reason\n"
    assert pybuild("history", "ls", "-q", "-f", "status=failed").stdout.split() == [document["id"]]
    assert pybuild("history", "ls", "-q", "-f", "status=completed").stdout == ""


def test_a_build_that_was_killed(pybuild: Pybuild) -> None:
    here = pybuild.context({"Dockerfile": "FROM busybox\nRUN echo begun; sleep 600\n"})
    process = pybuild.start("build", "--progress=plain", here)
    with process:
        assert process.stderr
        assert any(line.endswith(" begun\n") for line in process.stderr)
        assert inspected(pybuild)["status"] == "running"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    document = inspected(pybuild)
    assert document["status"] == "interrupted"
    step = next(step for step in document["steps"] if "RUN" in step["name"])
    assert step["state"] == "running"
    assert pybuild("history", "logs", "^0", str(step["number"])).stdout == "begun\n"
    pybuild("history", "rm", "-a")
    assert pybuild("history", "ls", "-q").stdout == ""


def test_an_interrupted_build(pybuild: Pybuild) -> None:
    here = pybuild.context({"Dockerfile": "FROM busybox\nRUN echo begun; sleep 600\n"})
    process: subprocess.Popen[str] = pybuild.start("build", "--progress=plain", here)
    with process:
        assert process.stderr
        assert any(line.endswith(" begun\n") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        process.communicate()
    document = inspected(pybuild)
    assert document["status"] == "canceled"
    assert [s["state"] for s in document["steps"] if "RUN" in s["name"]] == ["canceled"]


def test_forgetting_builds(pybuild: Pybuild) -> None:
    here = context(pybuild)
    for _ in range(3):
        build(pybuild, here)
    ids = pybuild("history", "ls", "-q").stdout.split()
    assert pybuild("history", "rm", "^0", "^2").stdout.split() == [ids[0], ids[2]]
    assert pybuild("history", "ls", "-q").stdout.split() == [ids[1]]
    assert list((pybuild.store / "history").iterdir()) == []
    assert pybuild("history", "rm", status=2).stdout == ""
    assert "no build 'nope'" in pybuild("history", "inspect", "nope", status=1).stderr
