"""``pybuild cache export`` and ``cache import``: the cache in one file, to a machine without a network."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from buildkit_py.digest import of_bytes
from tests.integration.cache.machines import Machines, ran
from tests.support.runner import Pybuild

FILES = {
    "Dockerfile": """\
FROM busybox AS tools
RUN echo tool > /tool
FROM busybox
COPY data /data
RUN --mount=type=cache,target=/c,uid=3,mode=0710 echo kept > /c/kept; date +%s%N > /stamp
COPY --from=tools /tool /tool
RUN cat /data /tool > /both
""",
    "data": "data\n",
}


def told_steps(text: str) -> int:
    return int(text.rpartition("ported ")[2].split(" ", 1)[0])


def test_to_another_machine(pybuild: Pybuild, machines: Machines) -> None:
    file = pybuild.out / "cache.tar"
    context = pybuild.context(FILES)
    first, second = machines(), machines()
    first("-t", "x", context)
    exported = first("export", file, "--mounts", command="cache")
    assert "and 1 cache mount" in exported
    assert tarfile.is_tarfile(file)
    imported = second("import", file, command="cache")
    assert told_steps(imported) == told_steps(exported) and "and 1 cache mount" in imported
    # Only the base image's layer can't be packed again: its blob is kept, and the others' are not.
    kept = list((pybuild.folder / "machine-2/blobs/sha256").iterdir())
    assert len(kept) == 1
    # Nothing but the base image's documents is asked for.
    assert ran(second("-t", "x", context)) == []
    words = ("--rm", "x", "cat", "/stamp", "/both")
    assert first(*words, command="run") == second(*words, command="run")
    assert "COPY data /data" in second("ls", command="cache")
    look = pybuild.context(
        {"Dockerfile": "FROM busybox\nRUN --mount=type=cache,target=/c cat /c/kept; stat -c %u:%a /c\n"},
        "look",
    )
    told = second(look)
    assert " kept" in told
    assert (" 3:710" if pybuild.person.kind != "single" else " 0:710") in told
    # What came from a file goes on to a third machine and into a registry's form, without the file.
    file.unlink()
    again = pybuild.out / "again.tar"
    second("export", again, command="cache")
    third = machines()
    third("import", again, command="cache")
    assert ran(third("-t", "x", context)) == []


def test_a_mount_that_began_as_a_stage(pybuild: Pybuild, machines: Machines) -> None:
    text = """\
FROM busybox AS start
RUN mkdir /s && echo begun > /s/f
FROM busybox
RUN --mount=type=cache,target=/c,id=x,from=start,source=/s cat /c/f; echo %s >> /c/f
"""
    file = pybuild.out / "cache.tar"
    first, second = machines(), machines()
    assert " begun" in first(pybuild.context({"Dockerfile": text % "first"}))
    assert "and 1 cache mount" in first("export", file, "--mounts", command="cache")
    assert "and 1 cache mount" in second("import", file, command="cache")
    told = second(pybuild.context({"Dockerfile": text % "second"}))
    assert " begun" in told and " first" in told


def test_by_a_pipe(pybuild: Pybuild, machines: Machines) -> None:
    context = pybuild.context(FILES)
    first, second = (str(pybuild.folder / name) for name in ("one", "two"))
    pybuild("build", context, env={"PYBUILD_ROOT": first})
    sender = pybuild.start(
        "cache", "export", "-q", "-", env={"PYBUILD_ROOT": first}, text=False, errors=None, stderr=None
    )
    with sender:
        pybuild("cache", "import", "-", env={"PYBUILD_ROOT": second}, stdin=sender.stdout)
        assert sender.wait(60) == 0
    assert ran(pybuild("build", "--progress=plain", context, env={"PYBUILD_ROOT": second}).stderr) == []


def test_an_import_adds(pybuild: Pybuild, machines: Machines) -> None:
    file = pybuild.out / "cache.tar"
    context, other = pybuild.context(FILES), pybuild.context({"Dockerfile": "FROM busybox\nRUN :\n"}, "other")
    first, second = machines(), machines()
    first(context)
    first("export", file, command="cache")
    second(other)
    second("import", file, command="cache")
    second("import", file, command="cache")
    assert ran(second(context)) == [] and ran(second(other)) == []


@pytest.mark.parametrize("what", ["text", "image", "tar", "cut"])
def test_what_is_no_cache(pybuild: Pybuild, machines: Machines, what: str) -> None:
    file = pybuild.out / "file"
    machine = machines()
    context = pybuild.context(FILES)
    if what == "text":
        file.write_text("hello")
    elif what == "image":
        machine("-o", f"type=oci,dest={file}", context)
    elif what == "tar":
        with tarfile.open(file, "w") as tar:
            tar.addfile(tarfile.TarInfo("x"), io.BytesIO())
    else:
        machine(context)
        machine("export", file, command="cache")
        file.write_bytes(file.read_bytes()[:-20000])
    pybuild.person.own(file)
    empty = machines()
    told = empty("import", file, command="cache", status=1)
    assert "ERROR" in told and "unexpected" not in told
    assert empty("ls", "-q", command="cache") == ""


def rewritten(source: Path, target: Path, edit: dict[str, bytes]) -> None:
    """Copy a tar with other content for some files."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            file = old.extractfile(member)
            data = edit.get(member.name, file.read() if file else b"")
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


def test_a_hostile_file(pybuild: Pybuild, machines: Machines) -> None:
    """A blob that is not what its name says, and one whose diff id is another's: those steps are left out."""
    file, bad = pybuild.out / "cache.tar", pybuild.out / "bad.tar"
    context = pybuild.context(FILES)
    first = machines()
    first(context)
    first("export", file, command="cache")
    with tarfile.open(file) as tar:
        names = tar.getnames()
        index = json.loads(read(tar, "index.json"))
        manifest_name = blob(index["manifests"][0]["digest"])
        manifest = json.loads(read(tar, manifest_name))
        config = json.loads(read(tar, blob(manifest["config"]["digest"])))
    layers = [blob(layer["digest"]) for layer in manifest["layers"]]
    assert set(layers) < set(names)
    rewritten(file, bad, {layers[0]: b"something else"})
    pybuild.person.own(bad)
    told = machines()("import", "--progress=plain", bad, command="cache")
    assert "a step is left out" in told
    diff_ids = [each["diffID"] for each in config["blobs"]]
    for each, other in zip(config["blobs"], diff_ids[1:] + diff_ids[:1], strict=True):
        each["diffID"] = other
    text = json.dumps(config).encode()
    manifest["config"] |= {"digest": of_bytes(text), "size": len(text)}
    text_of_manifest = json.dumps(manifest).encode()
    index["manifests"][0] |= {"digest": of_bytes(text_of_manifest), "size": len(text_of_manifest)}
    rewritten(file, bad, {"index.json": json.dumps(index).encode()})
    with tarfile.open(bad, "a") as tar:
        for data in (text, text_of_manifest):
            info = tarfile.TarInfo(blob(of_bytes(data)))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    machine = machines()
    told = machine("import", bad, command="cache")
    assert told_steps(told) == 0
    assert len(ran(machine(context))) == 5


def read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def blob(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def test_places_that_are_not_there(me: Pybuild) -> None:
    result = me("cache", "export", me.out / "no" / "where.tar", status=2)
    assert "where.tar" in result.stderr
    result = me("cache", "import", me.out / "nothing", status=2)
    assert "nothing" in result.stderr
