"""The commands about the cache, on a store that builds have filled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.runner import Pybuild

DOCKERFILE = """\
FROM busybox AS build
ARG MODE=fast
RUN echo $MODE > /mode
RUN --mount=type=cache,target=/c echo x > /c/x
FROM busybox
COPY f g /x/
COPY --from=build /mode /
"""


@pytest.fixture
def built(me: Pybuild) -> Pybuild:
    me("build", "-t", "app:1", me.context({"Dockerfile": DOCKERFILE, "f": "one\n", "g": "two\n"}))
    return me


def listed(pybuild: Pybuild, *words: str) -> dict[str, dict[str, Any]]:
    """``cache ls`` by the instruction."""
    lines = pybuild("cache", "ls", "--no-trunc", "--format=json", *words).stdout.splitlines()
    return {
        row["Description"].partition("] ")[2] or row["Description"]: row for row in map(json.loads, lines)
    }


def test_ls(built: Pybuild) -> None:
    rows = listed(built)
    assert rows["COPY f g /x/"]["Images"] == "app:1"
    assert rows["RUN echo $MODE > /mode"]["Images"] == ""
    assert rows["cache mount /c"]["Type"] == "exec.cachemount"
    assert rows["files of a build context"]["Type"] == "source.local"
    built("build", "-t", "app:1", built.folder / "context")
    again = listed(built)
    used = {name for name, row in again.items() if int(row["UsageCount"]) > int(rows[name]["UsageCount"])}
    assert {"COPY f g /x/", "RUN echo $MODE > /mode", "COPY --from=build /mode /"} <= used
    assert set(listed(built, "--filter", "type=exec.cachemount")) == {"cache mount /c"}
    assert "app:1" in built("cache", "ls").stdout
    for n in "234":
        built("build", "-t", f"app:{n}", "--label", f"n={n}", built.folder / "context")
    built("rmi", "-f", "app:2")
    (row,) = [line for line in built("cache", "ls").stdout.splitlines() if "COPY f g /x/" in line]
    assert "app:4, app:3 +1 " in row, "the latest first"
    assert listed(built)["COPY f g /x/"]["Images"].count(",") == 2


def test_inspect(built: Pybuild) -> None:
    key = listed(built)["COPY f g /x/"]["ID"]
    found = json.loads(built("cache", "inspect", "--format=json", key[:20]).stdout)
    assert found["key"] == key and found["result"]["images"] == ["docker.io/library/app:1"]
    (files,) = found["files"].values()
    assert files["f"]["content"] == "sha256:2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806"
    key = listed(built)["RUN echo $MODE > /mode"]["ID"]
    shown = built("cache", "inspect", key).stdout
    assert "MODE=fast" in shown and "echo $MODE > /mode" in shown
    assert "no cache key" in built("cache", "inspect", "0" * 64, status=1).stderr
    assert "no beginning" in built("cache", "inspect", "xyz", status=2).stderr


def test_tree(built: Pybuild) -> None:
    drawn = built("cache", "tree").stdout
    assert "✗ [build 2/3] RUN echo $MODE > /mode" in drawn
    (built.folder / "context" / "f").write_text("changed\n")
    drawn = built("cache", "tree", built.folder / "context").stdout
    assert "✗ [stage-1 2/3] COPY f g /x/" in drawn and "✓ [build 2/3] RUN echo $MODE > /mode" in drawn
    drawn = built("cache", "tree", "--build-arg=MODE=slow", built.folder / "context").stdout
    assert "✗ [build 2/3] RUN echo $MODE > /mode" in drawn
    found = json.loads(built("cache", "tree", "--format=json").stdout)
    assert {node["state"] for node in found} == {"ran"}


def test_du(built: Pybuild) -> None:
    (built.folder / "context" / "f").write_text("changed\n" * 10_000)
    built("build", "-t", "app:2", built.folder / "context")
    lines = built("cache", "du", "--by=image", "--format=json").stdout.splitlines()
    images = {row["Image"]: row for row in map(json.loads, lines)}
    assert images["app:2"]["Shared"] == images["app:1"]["Shared"] != "0B"
    assert int(images["app:2"]["Bytes"]) >= int(images["app:1"]["Bytes"]) + 70_000
    builds = list(map(json.loads, built("cache", "du", "--by=build", "--format=json").stdout.splitlines()))
    assert [row["Name"] for row in builds] == ["app:2", "app:1"]
    assert builds[0]["Own"] != "0B"
    kinds = list(map(json.loads, built("cache", "du", "--format=json").stdout.splitlines()))
    assert {"regular", "exec.cachemount", "images", "blobs"} <= {row["Type"] for row in kinds}


@pytest.mark.parametrize(
    ("command", "field", "heading"),
    [
        ("cache ls", "LastUsedAt", "LAST USED AT"),
        ("cache du", "Bytes", "BYTES"),
        ("cache du -v", "Snapshot", "SNAPSHOT"),
        ("history ls", "Context", "CONTEXT"),
        ("network ls", "Scope", "SCOPE"),
    ],
)
def test_a_table_of_chosen_fields(me: Pybuild, command: str, field: str, heading: str) -> None:
    """``table`` before a template means headings and columns, as with docker, also where there is no row."""
    form = "table {{.FIELD}}\t{{.FIELD}}".replace("FIELD", field)
    first, *rows = me(*command.split(), "--format", form).stdout.splitlines()
    assert first.split("   ")[0] == heading and first.endswith(heading)
    assert all("table" not in row and "\t" not in row for row in rows)


def test_prune_and_verify(built: Pybuild) -> None:
    told = built("cache", "prune", "--dry-run", "--filter=type=exec.cachemount").stdout
    assert "cache mount /c" in told and "RUN" not in told
    assert built("cache", "prune", "-f", "--filter=unused-for=1h").stdout.startswith(
        "Total reclaimed space: 0B"
    )
    built("cache", "prune", "-f")
    assert set(listed(built)) == {"COPY f g /x/", "COPY --from=build /mode /", "FROM busybox"}
    built("build", "-t", "app:1", built.folder / "context")
    assert built("run", "--rm", "app:1", "cat", "/mode").stdout == "fast\n"
    found = json.loads(built("cache", "verify", "--format=json").stdout)
    assert found["findings"] == [] and found["layers"] > 0
    assert "unknown filter" in built("cache", "prune", "-f", "--filter=x=y", status=2).stderr
    assert "no type" in built("cache", "prune", "-f", "--filter=type=y", status=2).stderr


FAILING = """\
FROM busybox AS build
RUN echo one > /one
FROM busybox
RUN --mount=type=bind,from=build,target=/m echo CODE && cat /m/one && exit CODE
COPY --from=build /one /etc/passwd/
"""


def test_a_failed_step_leaves_a_sound_store(me: Pybuild) -> None:
    """Its key is known by what it mounts or copies, but it has no result."""
    for code in "30":  # first the RUN fails, then it succeeds and the COPY onto a file fails
        me("build", me.context({"Dockerfile": FAILING.replace("CODE", code)}), status=1)
        assert json.loads(me("cache", "verify", "--format=json").stdout)["findings"] == []
