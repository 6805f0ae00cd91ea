"""``pybuild why`` and ``build --explain``: every reason for which a step can run, as each kind of user."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.digest import of_bytes
from tests.support.registry import Registry
from tests.support.runner import Pybuild
from tests.support.web import Page, Web

DOCKERFILE = """\
FROM busybox AS build
ARG MODE=slow
ARG API_TOKEN
ENV LEVEL=1
WORKDIR /src
COPY src /src
RUN cat a > /out
FROM busybox
COPY --from=build /out /app
RUN --mount=type=bind,from=build,source=/src,target=/mnt --mount=type=tmpfs,target=/t ls /mnt
"""
COPY = "[build 3/4] COPY src /src"
CAT = "[build 4/4] RUN cat a > /out"
LAST = "[stage-1 2/3] COPY --from=build /out /app"
MOUNTED = "[stage-1 3/3] RUN --mount=type=bind,from=build,source=/src,target=/mnt"


class Project:
    """A context of which things change between builds."""

    def __init__(self, pybuild: Pybuild) -> None:
        self.pybuild = pybuild
        self.dockerfile = DOCKERFILE
        self.files: dict[str, str | bytes] = {"src/a": "a\n", "src/b": "b\n"}
        self.build()

    def build(self, *words: str | Path, status: int = 0) -> str:
        self.here = self.pybuild.context({"Dockerfile": self.dockerfile, **self.files})
        return self.again(*words, status=status)

    def again(self, *words: str | Path, status: int = 0) -> str:
        """The context as it is; what --explain says."""
        text = self.pybuild("build", "-q", "--explain", *words, self.here, status=status).stderr
        return text[text.index("build ") :]

    def reasons(self, *build: str) -> dict[str, list[dict[str, Any]]]:
        """By step, of ``why --format json``."""
        document = json.loads(self.pybuild("why", "--format", "json", *build).stdout)
        return {step["name"]: step["reasons"] for step in document["steps"]}

    def one(self, step: str) -> dict[str, Any]:
        (reason,) = self.reasons()[step]
        return reason


@pytest.fixture
def project(pybuild: Pybuild) -> Project:
    return Project(pybuild)


def section(text: str, step: str) -> list[str]:
    """What is said of a step, without the indent."""
    lines = text.splitlines()
    start = lines.index(step) + 1
    end = next((n for n in range(start, len(lines)) if not lines[n].startswith(" ")), len(lines))
    return [line[4:] for line in lines[start:end]]


def test_first_and_nothing(project: Project) -> None:
    assert all(reasons == [{"kind": "first"}] for reasons in project.reasons().values())
    assert section(project.pybuild("why").stdout, CAT) == ["it is new: no earlier key"]
    text = project.build()
    assert text.endswith("(context): nothing ran, 6 steps were cached\n")
    assert project.reasons() == {}
    assert project.pybuild("why").stdout == text


def test_files_of_the_context(project: Project) -> None:
    project.files |= {"src/a": "changed\n", "src/new": "n\n"}
    del project.files["src/b"]
    text = project.build()
    assert section(text, COPY) == [
        "files changed in the build context",
        "  src/a: 2 -> 8 bytes, sha256:87428fc52280 -> sha256:7f8b1dfc466b",
        "  src/b: gone, 2 bytes, mode 0644",
        "  src/new: new, 2 bytes, mode 0644",
    ]
    reason = project.one(COPY)
    assert (reason["kind"], reason["name"]) == ("file", "the build context")
    assert reason["old"].startswith("sha256:") and reason["old"] != reason["new"]
    changed, gone, new = reason["files"]
    assert changed["path"] == "src/a" and changed["old"]["size"] == 2 and changed["new"]["size"] == 8
    assert changed["new"]["digest"].startswith("sha256:7f8b1dfc466b")
    assert gone["new"] is None and new["old"] is None and new["new"]["mode"] == "0644"
    # what stands on it
    assert project.one(CAT) == {"kind": "step", "name": COPY}
    assert section(text, CAT) == [f"an earlier step ran again: {COPY}"]
    # a file of a stage
    assert section(text, LAST)[:1] == [f"a file changed in {CAT}"]
    (file,) = project.one(LAST)["files"]
    assert (file["path"], file["old"]["size"], file["new"]["size"]) == ("out", 2, 8)


def test_the_mode_of_a_file(project: Project) -> None:
    os.chmod(project.here / "src/a", 0o600)
    text = project.again()
    assert section(text, COPY) == ["a file changed in the build context", "  src/a: mode 0644 -> 0600"]


def test_a_mount_of_a_stage_has_other_files(project: Project) -> None:
    project.files["src/b"] = "other\n"
    text = project.build()
    step = next(name for name in project.reasons() if name.startswith(MOUNTED))
    assert section(text, step)[0] == "a file of the mount bind /mnt changed"
    reason = project.one(step)
    assert (reason["kind"], reason["name"]) == ("file", "mount bind /mnt")
    assert [f["path"] for f in reason["files"]] == ["src/b"]


def test_a_mount_has_other_settings(project: Project) -> None:
    project.dockerfile = DOCKERFILE.replace("target=/t ", "target=/t,size=1048576 ")
    text = project.build()
    step = next(name for name in project.reasons() if name.startswith(MOUNTED))
    reason = project.one(step)
    assert (reason["kind"], reason["name"]) == ("mount", "tmpfs /t")
    assert reason["new"]["size"] == 1048576 and "size" not in reason["old"]
    assert section(text, step)[0] == "the mount changed: tmpfs /t"


def test_arg_env_and_what_is_hidden(project: Project) -> None:
    project.dockerfile = DOCKERFILE.replace("LEVEL=1", "LEVEL=2")
    text = project.build("--build-arg", "MODE=fast", "--build-arg", "API_TOKEN=s3cret1")
    by_name = {reason["name"]: reason for reason in project.reasons()[CAT]}
    assert by_name == {
        "MODE": {"kind": "arg", "name": "MODE", "old": "slow", "new": "fast"},
        "API_TOKEN": {"kind": "arg", "name": "API_TOKEN", "hidden": True},
        "LEVEL": {"kind": "env", "name": "LEVEL", "old": "1", "new": "2"},
    }
    said = section(text, CAT)
    assert said[said.index("ARG MODE changed") :][:3] == ["ARG MODE changed", "  - slow", "  + fast"]
    assert "ARG API_TOKEN changed (its value is hidden)" in said
    assert said[said.index("ENV LEVEL changed") :][:3] == ["ENV LEVEL changed", "  - 1", "  + 2"]
    project.build("--build-arg", "MODE=fast", "--build-arg", "API_TOKEN=s3cret2")
    assert project.reasons()[CAT] == [{"kind": "arg", "name": "API_TOKEN", "hidden": True}]
    assert "s3cret" not in project.pybuild("why", "^1").text + project.pybuild("history", "inspect").text


def test_the_nearest_key_counts(project: Project) -> None:
    """Two ways to build in turn: a change is told without the other one's settings."""
    project.build("--build-arg", "MODE=fast")
    project.files["src/a"] = "changed\n"
    project.build()
    assert project.one(CAT) == {"kind": "step", "name": COPY}


def test_the_instruction(project: Project) -> None:
    project.dockerfile = DOCKERFILE.replace("RUN cat a", "RUN cat a b")
    text = project.build()
    step = "[build 4/4] RUN cat a b > /out"
    assert project.one(step) == {
        "kind": "instruction",
        "old": "RUN cat a > /out",
        "new": "RUN cat a b > /out",
    }
    assert section(text, step) == [
        "the instruction changed",
        "  - RUN cat a > /out",
        "  + RUN cat a b > /out",
    ]


def test_a_setting(project: Project) -> None:
    project.dockerfile = DOCKERFILE.replace("RUN cat a > /out", "USER 7\nRUN cat a").replace("/out", "/src/a")
    project.build()
    project.dockerfile = project.dockerfile.replace("USER 7", "USER 8")
    text = project.build()
    step = "[build 4/4] RUN cat a"
    assert project.one(step) == {"kind": "setting", "name": "user", "old": "7", "new": "8"}
    assert section(text, step) == ["the setting changed: user", "  - 7", "  + 8"]


def test_no_cache(project: Project) -> None:
    text = project.build("--no-cache-filter", "build")
    assert project.one(CAT) == {"kind": "no-cache"}
    assert section(text, CAT) == ["the cache was not to be used (--no-cache)"]
    project.build("--no-cache")
    assert all(reasons == [{"kind": "no-cache"}] for reasons in project.reasons().values())


def test_it_failed_before(project: Project) -> None:
    project.dockerfile = DOCKERFILE.replace("RUN cat a > /out", "RUN cat a > /out; exit 1")
    project.build(status=1)
    text = project.build(status=1)
    step = "[build 4/4] RUN cat a > /out; exit 1"
    assert project.one(step) == {"kind": "failed"}
    assert section(text, step) == ["it did not end well the last time"]


def test_its_result_is_gone(project: Project) -> None:
    project.pybuild("cache", "prune", "-f", "-a")
    text = project.build()
    assert {"kind": "gone"} in project.reasons()[CAT]
    assert "its result is no longer in the store" in section(text, CAT)


def test_it_stands_on_another_step(project: Project) -> None:
    project.dockerfile = DOCKERFILE.replace("WORKDIR /src\nCOPY src /src\n", "WORKDIR /src\n")
    project.build(status=1)
    project.dockerfile = DOCKERFILE.replace("COPY src /src\n", "").replace("cat a >", "echo >")
    project.build()
    project.dockerfile = DOCKERFILE.replace("cat a >", "echo >")
    text = project.build()
    step = "[build 4/4] RUN echo > /out"
    reason = project.one(step)
    assert reason == {"kind": "parent", "old": "[build 2/3] WORKDIR /src", "new": COPY}
    assert section(text, step)[0] == "it stands on another step"


def test_another_base_image(pybuild: Pybuild, bases: Registry, base_folder: Path, tmp_path: Path) -> None:
    name = f"test/why-{pybuild.person.kind}"
    bases.push_base(base_folder / "busybox", f"{name}:1")
    dockerfile = f"FROM {bases.address}/{name}:1\nRUN echo hello\n"
    here = pybuild.context({"Dockerfile": dockerfile})
    pybuild("build", here)
    bases.push_base(base_folder / "debian", f"{name}:1")
    text = pybuild("build", "-q", "--explain", "--pull", here).stderr
    document = json.loads(pybuild("why", "--format", "json").stdout)
    run = next(step for step in document["steps"] if "RUN echo" in step["name"])
    (reason,) = (r for r in run["reasons"] if r["kind"] == "base")
    assert reason["name"].endswith(f"{name}:1")
    assert reason["old"] != reason["new"] and reason["new"].startswith("sha256:")
    assert f"the base image changed: {reason['name']}" in section(text, run["name"])


def test_a_file_from_the_web(me: Pybuild, web: Web) -> None:
    for data in (b"one", b"two, longer"):
        web.pages["/f"] = Page(data)
        me("build", "-q", me.context({"Dockerfile": f"FROM busybox\nADD {web.url}/f /x/\n"}))
    steps = {s["name"]: s["reasons"] for s in json.loads(me("why", "--format", "json").stdout)["steps"]}
    (source,) = steps[f"{web.url}/f"]
    assert source == {
        "kind": "source",
        "name": f"{web.url}/f",
        "old": of_bytes(b"one"),
        "new": of_bytes(b"two, longer"),
    }
    (file,) = steps[f"[2/2] ADD {web.url}/f /x/"]
    assert (file["kind"], file["files"][0]["old"]["size"], file["files"][0]["new"]["size"]) == ("file", 3, 11)


def test_a_build_that_is_not_there(pybuild: Pybuild) -> None:
    assert "there is no build yet" in pybuild("why", status=1).stderr


def test_another_dockerfile_is_another_story(project: Project) -> None:
    other = project.pybuild.context({"Dockerfile": "FROM busybox\nRUN cat /etc/group\n"}, name="other")
    project.pybuild("build", other)
    assert project.one("[2/2] RUN cat /etc/group") == {"kind": "first"}
