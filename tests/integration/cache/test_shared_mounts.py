"""Cache mounts that go along with a shared cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cache.conftest import CountingRegistry
from tests.integration.cache.machines import Machines, ran
from tests.support.runner import Pybuild

DOCKERFILE = """\
FROM busybox AS start
RUN mkdir /s && echo began > /s/began
FROM busybox
ARG N
RUN --mount=type=cache,target=/c --mount=type=cache,id=other,target=/o,uid=7,mode=0700 \\
    --mount=type=cache,from=start,source=/s,target=/f \\
    ls -lnd /o && ls -1 /c /f && echo run $N > /c/$N && ln -sf $N /c/last && ln /c/$N /c/hard-$N \\
    && chown 7:9 /c/$N && cp /c/$N /o/ && cp /c/$N /f/
"""


@pytest.fixture
def context(pybuild: Pybuild) -> Path:
    return pybuild.context({"Dockerfile": DOCKERFILE})


def index(place: Path) -> Any:
    blobs = place / "blobs/sha256"
    layout = json.loads((place / "index.json").read_text())
    manifest = json.loads((blobs / layout["manifests"][0]["digest"][7:]).read_text())
    return json.loads((blobs / manifest["config"]["digest"][7:]).read_text())


def build(n: int, *words: str | Path) -> list[str | Path]:
    return ["--build-arg", f"N={n}", *words]


def listed(told: str) -> list[str]:
    """What the step printed."""
    return [line.split(" ")[-1] for line in told.splitlines() if line.count(" ") >= 2 and line[0] == "#"]


def test_mounts_go_along(pybuild: Pybuild, machines: Machines, context: Path) -> None:
    place = pybuild.out / "cache"
    first, second = machines(), machines()
    first(*build(1, "--cache-to", f"type=local,dest={place},mounts=true", context))
    assert len(index(place)["mounts"]) == 3
    told = second(*build(2, "--cache-from", f"type=local,src={place}", context))
    assert {"1", "hard-1", "last", "began"} <= set(listed(told))
    alone = pybuild.person.kind == "single"
    assert "drwx------" in told and (alone or " 7 " in told), "one mapped id can't show others"
    third = machines()
    look = pybuild.context(
        {
            "Dockerfile": "FROM busybox\nRUN --mount=type=cache,target=/c "
            "stat -c '%n %u:%g %h %a' /c/1 && readlink /c/last && cat /c/last\n"
        },
        "look",
    )
    told = third("--cache-from", f"type=local,src={place}", look)
    assert f"/c/1 {'0:0' if alone else '7:9'} 2 644" in told and "run 1" in told


def test_what_is_here_stays(pybuild: Pybuild, machines: Machines, context: Path) -> None:
    place = pybuild.out / "cache"
    first, second = machines(), machines()
    second(*build(5, context))
    first(*build(1, "--cache-to", f"type=local,dest={place},mounts=true", context))
    told = second(*build(6, "--cache-from", f"type=local,src={place}", context))
    assert "5" in listed(told) and "1" not in listed(told)


@pytest.mark.parametrize("given", ["mounts=/c", "mounts=/c;/nothing", '"mounts=/c,/nothing"'])
def test_some_of_them(pybuild: Pybuild, machines: Machines, context: Path, given: str) -> None:
    place = pybuild.out / "cache"
    machines()(*build(1, "--cache-to", f"type=local,dest={place},{given}", context))
    assert len(index(place)["mounts"]) == 1
    told = machines()(*build(2, "--cache-from", f"type=local,src={place}", context))
    assert "1" in listed(told)
    told = machines()(*build(2, "--cache-from", f"type=local,src={place},mounts=false", context))
    assert "1" not in listed(told)


def test_none_unless_asked(pybuild: Pybuild, machines: Machines, context: Path) -> None:
    place = pybuild.out / "cache"
    machines()(*build(1, "--cache-to", f"type=local,dest={place},mode=max", context))
    assert index(place)["mounts"] == {}


@pytest.mark.needs("docker-registry")
def test_an_unchanged_mount_is_not_sent_again(
    pybuild: Pybuild, machines: Machines, context: Path, counting: CountingRegistry
) -> None:
    spec = f"type=registry,ref={counting.address}/a/b:cache"
    first, second = machines(), machines()
    first(*build(1, "--cache-to", f"{spec},mounts=true", context))
    counting.requests()
    first(*build(1, "--cache-to", f"{spec},mounts=true", context))
    assert not [r for r in counting.requests() if r.startswith(("POST", "PATCH"))]
    before = counting.manifest("a/b", "cache")
    told = second(*build(1, "--cache-from", spec, "--cache-to", f"{spec},mounts=true", context))
    assert ran(told) == []
    # It ran nothing, so it has no mounts; those of the cache must not get lost by that.
    assert counting.manifest("a/b", "cache") == before
    assert not [r for r in counting.requests() if r.startswith(("POST", "PATCH"))]
    place = pybuild.out / "cache"
    machines()(*build(1, "--cache-from", spec, "--cache-to", f"type=local,dest={place},mounts=true", context))
    told = machines()(*build(2, "--cache-from", f"type=local,src={place}", context))
    assert "1" in listed(told)


@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_a_broken_mount_begins_empty(pybuild: Pybuild, machines: Machines, context: Path, fault: str) -> None:
    place = pybuild.out / "cache"
    machines()(*build(1, "--cache-to", f"type=local,dest={place},mounts=/c", context))
    found = index(place)
    name = found["blobs"][next(iter(found["mounts"].values()))]["digest"][7:]
    blob = place / "blobs/sha256" / name
    if fault == "gone":
        blob.unlink()
    else:
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
    told = machines()(*build(2, "--cache-from", f"type=local,src={place}", context))
    assert "is not used" in told and "1" not in listed(told)
    assert "began" in listed(told)


def test_a_mount_that_no_tar_can_hold_is_told(pybuild: Pybuild, machines: Machines) -> None:
    place = pybuild.out / "cache"
    context = pybuild.context(
        {"Dockerfile": "FROM busybox\nRUN --mount=type=cache,target=/c touch /c/.wh.x\n"}
    )
    told = machines()("--cache-to", f"type=local,dest={place},mounts=true", context)
    assert "the cache mount /c is not shared" in told
    assert index(place)["mounts"] == {}
