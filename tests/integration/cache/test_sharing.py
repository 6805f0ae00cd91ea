"""Two machines (stores) that share a cache: what the second builds, and what it fetches for that."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.integration.cache.conftest import CountingRegistry
from tests.integration.cache.machines import Machines, ran
from tests.support.registry import Registry
from tests.support.runner import Pybuild

pytestmark = pytest.mark.needs("docker-registry")

DOCKERFILE = """\
FROM busybox AS tools
ARG WORD
RUN head -c 300000 /dev/urandom > /noise
RUN --mount=type=secret,id=token echo "$WORD" > /tool; sleep 0
FROM busybox
COPY data /data
RUN date +%s%N > /stamp
COPY --from=tools /tool /tool
RUN cat /data /tool > /both
"""
FILES = {"Dockerfile": DOCKERFILE, "data": "data\n"}


def layer_gets(requests: list[str], repository: str, config: str = "") -> list[str]:
    start = f"GET {repository}/blobs/"
    return [r for r in requests if r.startswith(start) and not r.endswith(config or "never")]


def test_the_second_machine_builds_nothing(
    pybuild: Pybuild, machines: Machines, registry: Registry, counting: CountingRegistry
) -> None:
    ref = f"{counting.address}/team/app:cache"
    context = pybuild.context(FILES)
    first, second = machines(), machines()
    assert len(ran(first("-t", "x", "--cache-to", f"type=registry,ref={ref},mode=max", context))) == 6
    manifest = counting.manifest("team/app", "cache")
    held = {layer["digest"]: layer["size"] for layer in manifest["layers"]}  # type: ignore[attr-defined]
    counting.requests()
    told = second("-t", "x", "--cache-from", f"type=registry,ref={ref}", context)
    assert ran(told) == []
    requests = counting.requests()
    config = manifest["config"]["digest"]  # type: ignore[index]
    assert requests.count("GET team/app/manifests/cache") == 1
    assert requests.count(f"GET team/app/blobs/{config}") == 1
    fetched = layer_gets(requests, "team/app", config)
    # Four layers of the image; the stage that is only copied from stays where it is.
    assert len(fetched) == len(set(fetched)) == 4 and len(held) == 5
    assert sum(held[f.rpartition("/")[2]] for f in fetched) < 10_000
    words = ("--format", "{{.Id}}", "x")
    assert first(*words, command="inspect") == second(*words, command="inspect")
    stamp = first("--rm", "x", "cat", "/stamp", "/both", command="run")
    assert second("--rm", "x", "cat", "/stamp", "/both", command="run") == stamp
    # Now all is here, and nobody is asked.
    assert ran(second("-t", "x", "--cache-from", f"type=registry,ref={ref}", context)) == []
    assert counting.requests() == []


def test_a_change_above_uses_what_is_below(
    pybuild: Pybuild, machines: Machines, counting: CountingRegistry
) -> None:
    spec = f"type=registry,ref={counting.address}/team/app:cache"
    machines()("--cache-to", f"{spec},mode=max", pybuild.context(FILES))
    counting.requests()
    changed = pybuild.context({**FILES, "Dockerfile": DOCKERFILE + "RUN cat /both\n"})
    told = machines()("--cache-from", spec, changed)
    assert [s.partition("] ")[2] for s in ran(told)] == ["RUN cat /both"]
    assert "data\n" in told
    # A stage's new content is needed for the copy out of it; its layers come, and nothing else is built.
    other = machines()
    told = other("--cache-from", spec, "--target", "tools", pybuild.context(FILES))
    assert ran(told) == []


def test_without_a_hit_only_the_index_is_read(
    pybuild: Pybuild, machines: Machines, counting: CountingRegistry
) -> None:
    spec = f"type=registry,ref={counting.address}/team/app:cache"
    machines()("--cache-to", f"{spec},mode=max", pybuild.context(FILES))
    config = counting.manifest("team/app", "cache")["config"]["digest"]  # type: ignore[index]
    other = pybuild.context({"Dockerfile": "FROM busybox\nRUN echo other\nRUN echo things\n"})
    counting.requests()
    assert len(ran(machines()("--cache-from", spec, other))) == 2
    asked = [r for r in counting.requests() if "team/app" in r]
    assert asked == ["GET team/app/manifests/cache", f"GET team/app/blobs/{config}"]


def test_min_is_the_image_alone(pybuild: Pybuild, machines: Machines, counting: CountingRegistry) -> None:
    spec = f"type=registry,ref={counting.address}/team/app:cache"
    context = pybuild.context(FILES)
    machines()("--cache-to", spec, context)
    assert len(counting.manifest("team/app", "cache")["layers"]) == 4  # type: ignore[arg-type]
    assert ran(machines()("--cache-from", spec, context)) == []
    told = machines()("--cache-from", spec, "--target", "tools", context)
    assert len(ran(told)) == 2


def test_a_second_export_sends_nothing(
    pybuild: Pybuild, machines: Machines, counting: CountingRegistry
) -> None:
    spec = f"type=registry,ref={counting.address}/team/app:cache,mode=max"
    context = pybuild.context(FILES)
    machine = machines()
    machine("--cache-to", spec, context)
    before = counting.manifest("team/app", "cache")
    counting.requests()
    machine("--cache-to", spec, context)
    requests = counting.requests()
    assert not [r for r in requests if r.startswith(("POST", "PATCH"))]
    assert counting.manifest("team/app", "cache") == before
    # A machine that only knows the cache exports it as it is, too.
    other = machines()
    other("--cache-from", spec.replace(",mode=max", ""), "--cache-to", spec, context)
    assert not [r for r in counting.requests() if r.startswith(("POST", "PATCH"))]
    assert counting.manifest("team/app", "cache")["layers"] == before["layers"]


def test_a_hit_is_pushed_without_passing_by(
    pybuild: Pybuild, machines: Machines, counting: CountingRegistry
) -> None:
    at = counting.address
    context = pybuild.context(FILES)
    first, second = machines(), machines()
    first("-t", f"{at}/team/app:1", "--push", "--cache-to", f"type=registry,ref={at}/team/app:cache", context)
    counting.requests()
    told = second("-t", f"{at}/team/app:2", "--push", "--cache-from", f"{at}/team/app:cache", context)
    assert ran(told) == []
    requests = counting.requests()
    config = counting.manifest("team/app", "cache")["config"]["digest"]  # type: ignore[index]
    assert layer_gets(requests, "team/app", config) == []
    assert counting.manifest("team/app", "2") == counting.manifest("team/app", "1")
    # Into another repository of the registry the blobs are mounted.
    third = machines()
    told = third("-t", f"{at}/other/app:1", "--push", "--cache-from", f"{at}/team/app:cache", context)
    assert layer_gets(counting.requests(), "team/app", config) == []
    # It can be run afterwards: its layers come from where they were pushed.
    assert "data" in third("--rm", f"{at}/other/app:1", "cat", "/both", command="run")


@pytest.mark.parametrize("how", ["type=inline", "BUILDKIT_INLINE_CACHE=1"])
def test_inline(pybuild: Pybuild, machines: Machines, counting: CountingRegistry, how: str) -> None:
    name = f"{counting.address}/team/app:latest"
    context = pybuild.context(FILES)
    words = ["--cache-to", how] if how.startswith("type") else ["--build-arg", how]
    machines()("-t", name, "--push", *words, context)
    told = machines()("-t", "x", "--cache-from", name, context)
    assert ran(told) == []
    # What is built on it carries no records of it.
    onto = pybuild.context({"Dockerfile": f"FROM {name}\nENV A=b\n"}, "onto")
    machine = machines()
    machine("-t", f"{counting.address}/team/onto:1", "--push", onto)
    config = counting.manifest("team/onto", "1")["config"]["digest"]  # type: ignore[index]
    assert "buildkit-py.cache.v1" not in json.loads(counting.get(f"/v2/team/onto/blobs/{config}"))


def test_local(pybuild: Pybuild, machines: Machines) -> None:
    place = pybuild.out / "cache"
    context = pybuild.context(FILES)
    first = machines()
    first("-t", "x", "--cache-to", f"type=local,dest={place},mode=max,compression=zstd", context)
    layout = json.loads((place / "index.json").read_text())
    manifest = json.loads((place / "blobs/sha256" / layout["manifests"][0]["digest"][7:]).read_text())
    assert {layer["mediaType"].rpartition("+")[2] for layer in manifest["layers"]} == {"zstd"}
    blobs = set(os.listdir(place / "blobs/sha256"))
    told = machines()("-t", "x", "--cache-from", f"type=local,src={place}", context)
    assert ran(told) == []
    # They are unpacked where they lie, and as they can be packed again they are not copied.
    held = {layer["digest"][7:] for layer in manifest["layers"]}
    assert not held & set(os.listdir(pybuild.folder / "machine-2/blobs/sha256"))
    # Old blobs go with the index that named them; another tag's stay.
    first("--cache-to", f"type=local,dest={place},tag=other", context)
    smaller = pybuild.context({"Dockerfile": "FROM busybox\nRUN echo 1 > /1\n"}, "smaller")
    first("--cache-to", f"type=local,dest={place}", smaller)
    gone = blobs - set(os.listdir(place / "blobs/sha256"))
    assert len(gone) == 3, "index, its config and the layer of a stage"
    told = machines()("-t", "x", "--cache-from", f"type=local,src={place},tag=other", context)
    assert ran(told) == []


def test_what_cannot_be_read_is_told_and_not_used(pybuild: Pybuild, machines: Machines) -> None:
    place = pybuild.out / "cache"
    context = pybuild.context(FILES)
    told = machines()("--cache-from", f"type=local,src={place}", context)
    assert len(ran(told)) == 6 and "warning" not in told
    machines()("--cache-to", f"type=local,dest={place},mode=max", context)
    (place / "index.json").write_text("{")
    told = machines()("--cache-from", f"type=local,src={place}", context)
    assert len(ran(told)) == 6
    assert f"the cache {place} is not used" in told
    told = machines()("--cache-from", "type=registry,ref=127.0.0.1:1/no/body", context)
    assert len(ran(told)) == 6 and "the cache 127.0.0.1:1/no/body is not used" in told


@pytest.mark.parametrize("fault", ["gone", "damaged", "swapped"])
def test_a_broken_promise_is_built(pybuild: Pybuild, machines: Machines, fault: str) -> None:
    place = pybuild.out / "cache"
    context = pybuild.context(FILES)
    machines()("--cache-to", f"type=local,dest={place},mode=max", context)
    layout = json.loads((place / "index.json").read_text())
    manifest = json.loads((place / "blobs/sha256" / layout["manifests"][0]["digest"][7:]).read_text())
    blobs = sorted(place / "blobs/sha256" / layer["digest"][7:] for layer in manifest["layers"])
    if fault == "gone":
        for blob in blobs:
            blob.unlink()
    elif fault == "damaged":
        for blob in blobs:
            data = bytearray(blob.read_bytes())
            data[len(data) // 2] ^= 1
            blob.write_bytes(data)
    else:
        _swap(place, layout, manifest)
    told = machines()("-t", "x", "--cache-from", f"type=local,src={place}", context)
    assert f"the cache {place} is given up" in told
    assert len([s for s in ran(told) if "] " in s]) == 6
    assert "data" in machines()("-t", "x", context)


def _swap(place: Path, layout: dict[str, object], manifest: dict[str, object]) -> None:
    """A hostile index: well-formed, but its diff ids are those of other blobs."""
    from buildkit_py.digest import canonical, of_bytes

    blobs = place / "blobs/sha256"
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())  # type: ignore[index]
    names = [blob["diffID"] for blob in config["blobs"]]
    for blob, name in zip(config["blobs"], names[1:] + names[:1], strict=True):
        blob["diffID"] = name
    data = canonical(config)
    (blobs / of_bytes(data)[7:]).write_bytes(data)
    manifest["config"] |= {"digest": of_bytes(data), "size": len(data)}  # type: ignore[operator]
    data = canonical(manifest)
    (blobs / of_bytes(data)[7:]).write_bytes(data)
    layout["manifests"][0] |= {"digest": of_bytes(data), "size": len(data)}  # type: ignore[index]
    (place / "index.json").write_text(json.dumps(layout))


def test_a_failed_export_warns(pybuild: Pybuild, machines: Machines) -> None:
    context = pybuild.context(FILES)
    nowhere = "type=registry,ref=127.0.0.1:1/no/body"
    told = machines()("-t", "x", "--cache-to", nowhere, context)
    assert "the cache was not exported" in told
    told = machines()("-t", "x", "--cache-to", f"{nowhere},ignore-error=false", context, status=1)
    assert "127.0.0.1:1" in told


def test_no_secret_reaches_the_index(pybuild: Pybuild, machines: Machines) -> None:
    place = pybuild.out / "cache"
    secret = pybuild.folder / "secret"
    secret.write_text("hunter2")
    pybuild.person.own(secret)
    context = pybuild.context(FILES)
    machines()(
        "--cache-to", f"type=local,dest={place},mode=max,compression=uncompressed",
        "--secret", f"id=token,src={secret}", "--build-arg", "WORD=passw0rd", context,
    )  # fmt: skip
    layout = json.loads((place / "index.json").read_text())
    manifest = (place / "blobs/sha256" / layout["manifests"][0]["digest"][7:]).read_text()
    config = (place / "blobs/sha256" / json.loads(manifest)["config"]["digest"][7:]).read_text()
    for word in ("hunter2", "passw0rd", "token", "RUN", "busybox", str(pybuild.folder)):
        assert word not in config + manifest + json.dumps(layout)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--cache-to=type=ftp", "no type=ftp"),
        ("--cache-to=type=registry", "needs ref="),
        ("--cache-to=type=local,dest=x,mode=mid", "mode=mid"),
        ("--cache-to=type=local,dest=x,compression=lzma", "compression=lzma"),
        ("--cache-to=type=local,dest=x,colour=red", "no field 'colour'"),
        ("--cache-to=type=registry,ref=a/b,image-manifest=false", "image-manifest=false"),
        ("--cache-from=type=inline", "type=inline is for --cache-to"),
        ("--cache-from=type=local", "needs src="),
        ("--cache-to=type=registry,ref=a/b@sha256:" + "0" * 64, "a digest is not for choosing"),
    ],
)
def test_wrong_options_are_refused_at_once(me: Pybuild, option: str, message: str) -> None:
    context = me.context({"Dockerfile": "FROM nothing/there\n"})
    result = me("build", option, context, status=2)
    assert message in result.stderr


def test_several_caches_and_force(pybuild: Pybuild, machines: Machines) -> None:
    one, two = pybuild.out / "one", pybuild.out / "two"
    context = pybuild.context(FILES)
    machines()("--cache-to", f"type=local,dest={one},mode=max", "--target", "tools", context)
    second = machines()
    told = second("--cache-from", f"type=local,src={one}", "--cache-to", f"type=local,dest={two}", context)
    assert [s.partition("] ")[2] for s in ran(told)] == [
        "COPY data /data",
        "RUN date +%s%N > /stamp",
        "COPY --from=tools /tool /tool",
        "RUN cat /data /tool > /both",
    ]
    words = ["--cache-from", f"type=local,src={one}", "--cache-from", f"type=local,src={two}"]
    again = pybuild.out / "again"
    third = machines()
    told = third(*words, "--target", "tools", context)
    assert ran(told) == []
    target = f"type=local,dest={again},mode=max,compression=zstd,force-compression=true,compression-level=9"
    assert ran(third(*words, "--cache-to", target, context)) == []
    layout = json.loads((again / "index.json").read_text())
    manifest = json.loads((again / "blobs/sha256" / layout["manifests"][0]["digest"][7:]).read_text())
    assert {layer["mediaType"].rpartition("+")[2] for layer in manifest["layers"]} == {"zstd"}
    shutil.rmtree(one)
    shutil.rmtree(two)
    assert ran(machines()("-t", "x", "--cache-from", f"type=local,src={again}", context)) == []


def test_several_platforms(me: Pybuild, bases: Registry, counting: CountingRegistry) -> None:
    """One index for all; inline, each platform's image has its own."""
    machines = Machines(me)
    files = {"Dockerfile": "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /a\nCOPY both /b\n"}
    context = me.context({**files, "amd64": "1", "arm64": "2", "both": "3"})
    both = "--platform=linux/amd64,linux/arm64"
    name = f"{counting.address}/team/several:1"
    cache = f"{counting.address}/team/several:cache"
    target = f"type=registry,ref={cache}"
    first = machines()
    first(both, "-t", name, "--push", "--cache-to", target, "--cache-to", "type=inline", context)
    for source in (name, cache):
        second = machines()
        assert ran(second(both, "-t", "x", "--cache-from", source, context)) == []
        assert ran(machines()("--platform=linux/arm64", "--cache-from", source, context)) == []
        third = machines()
        told = third(both, "-t", f"{name}0", "--push", "--cache-from", source, context)
        assert ran(told) == [] and "fetching cached" not in told
        assert "given up" not in told


def test_what_comes_is_as_old_as_it_is(me: Pybuild) -> None:
    """--cache-ttl counts from when a step ran, wherever that was."""
    machines = Machines(me)
    place = me.out / "cache"
    context = me.context(FILES)
    first, second = machines(), machines()
    first("--cache-to", f"type=local,dest={place},mode=max", context)
    source = f"type=local,src={place}"
    assert ran(second("--cache-from", source, "--cache-ttl=1h", context)) == []
    told = machines()("--cache-from", source, "--cache-ttl=0.001s", context)
    assert {s.partition("] ")[2].split(" ")[0] for s in ran(told)} >= {"RUN"}
    told = second("--cache-ttl=0.001s", context)
    assert len([s for s in ran(told) if "] RUN" in s]) == 4
