"""cp: files in and out of containers that run and that don't, and links that would lead elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import ready
from tests.support.runner import Pybuild

SETUP = "mkdir -p /dir/sub; echo one > /dir/file; ln -s file /dir/link; chmod 750 /dir/sub; echo v > /vol/v"


@pytest.fixture(params=["running", "stopped"])
def box(request: pytest.FixtureRequest, pybuild: Pybuild) -> Pybuild:
    """A pybuild with a container of that name, to be removed by the test."""
    script = SETUP + ("; echo ready; sleep 1000" if request.param == "running" else "")
    pybuild("run", "-d", "--name", "box", "-v", "vol:/vol", "busybox", "sh", "-c", script)
    if request.param == "running":
        ready(pybuild, "box")
    else:
        pybuild("wait", "box")
    return pybuild


def test_out_of_a_container(box: Pybuild) -> None:
    box("cp", "box:/dir", box.out / "new")
    assert (box.out / "new" / "file").read_text() == "one\n"
    assert os.readlink(box.out / "new" / "link") == "file"
    assert (box.out / "new" / "sub").stat().st_mode & 0o777 == 0o750
    assert (box.out / "new" / "file").stat().st_uid == box.person.uid
    box("cp", "box:dir/.", box.out)
    assert (box.out / "file").read_text() == "one\n"
    box("cp", "-L", "box:/dir/link", box.out / "followed")
    assert (box.out / "followed").read_text() == "one\n"
    box("cp", "box:/vol/v", box.out / "v")
    assert (box.out / "v").read_text() == "v\n", "what is mounted is seen"
    box("cp", "box:/", box.out / "all")
    assert (box.out / "all" / "dir" / "file").read_text() == "one\n"
    assert [list((box.out / "all" / name).iterdir()) for name in ("proc", "sys", "dev")] == [[], [], []]
    with box.start("cp", "box:/dir", "-", text=False, errors=None, stdout=subprocess.PIPE) as process:
        data: bytes = process.communicate()[0]  # type: ignore[assignment]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sorted(tar.getnames()) == ["dir", "dir/file", "dir/link", "dir/sub"]
    assert "No such file" in box("cp", "box:/none", box.out, status=1).stderr
    assert "no such directory" in box("cp", "box:/dir/file", box.out / "no" / "where", status=1).stderr
    assert "no such container" in box("cp", "nobody:/x", box.out, status=1).stderr
    box("rm", "-f", "box")


def test_into_a_container(box: Pybuild) -> None:
    tree = box.context({"a": "1\n", "sub/b": "2\n"}, "tree")
    (tree / "link").symlink_to("/etc/passwd")
    box("cp", tree, "box:/dir")
    box("cp", f"{tree}/.", "box:/dir/sub")
    box("cp", tree / "a", "box:/dir/file")
    box("cp", tree / "a", "box:/vol/copied")
    with box.start("cp", "-", "box:/dir", stdin=subprocess.PIPE, text=False, errors=None) as process:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo("deep/er/file")
            info.uid, info.size = 5, 2
            tar.addfile(info, io.BytesIO(b"5\n"))
        process.communicate(archive.getvalue())  # type: ignore[arg-type]
    assert process.returncode == 0
    assert "onto a file" in box("cp", tree, "box:/dir/file", status=1).stderr
    assert "no such directory" in box("cp", tree / "a", "box:/none/x", status=1).stderr
    assert "No such file" in box("cp", tree / "none", "box:/dir", status=1).stderr
    box("cp", "box:/dir", box.out / "back")
    back = box.out / "back"
    assert (back / "tree" / "sub" / "b").read_text() == "2\n"
    assert os.readlink(back / "tree" / "link") == "/etc/passwd"
    assert (back / "sub" / "a").read_text() == "1\n"
    assert (back / "file").read_text() == "1\n"
    assert (back / "deep" / "er" / "file").read_text() == "5\n"
    box("rm", "-f", "box")
    assert box("run", "--rm", "-v", "vol:/v", "busybox", "cat", "/v/copied").stdout == "1\n"


def test_links_of_a_container_lead_into_it(box: Pybuild) -> None:
    """Whatever a container put in the way, cp reads and writes its files and no others."""
    (box.out / "secret").write_text("the host's")
    victim = box.out / "victim"
    victim.mkdir()
    tree = box.context({"x": "mine\n"}, "tree")
    box("cp", _links(box.out), "box:/traps")
    for name in ("abs", "rel", "proc"):
        done = box("cp", "-L", f"box:/traps/{name}/secret", box.out / "stolen", status=None)
        assert done.status != 0
        assert not (box.out / "stolen").exists()
        box("cp", tree / "x", f"box:/traps/{name}/victim/x", status=None)
    assert os.listdir(victim) == []
    # A link at the end is the container's own, too: what is written goes into the container.
    box("cp", tree / "x", "box:/traps/abs", status=None)
    assert sorted(p.name for p in box.out.iterdir()) == ["secret", "traps", "victim"]
    box("rm", "-f", "box")


def _links(out: Path) -> Path:
    traps = out / "traps"
    traps.mkdir()
    (traps / "abs").symlink_to(out)
    (traps / "rel").symlink_to("../../../../../../../../../../.." + str(out))
    (traps / "proc").symlink_to("/proc/1/root" + str(out))
    return traps


def test_a_large_tree_both_ways(me: Pybuild) -> None:
    files = {f"d{i % 7}/f{i}": os.urandom(300 * (i % 50)) for i in range(500)}
    tree = me.context(files, "tree")
    me("create", "--name", "box", "busybox")
    me("cp", tree, "box:/tree")
    me("cp", "box:/tree", me.out / "back")
    for name, data in files.items():
        assert (me.out / "back" / name).read_bytes() == data
    me("rm", "box")


def test_forms(me: Pybuild) -> None:
    me("create", "--name", "box", "busybox")
    assert "neither side" in me("cp", "/a", "/b", status=2).stderr
    assert "between two" in me("cp", "box:/a", "box:/b", status=2).stderr
    (me.out / "with:colon").write_text("x")
    me("cp", "./with:colon", "box:/file", cwd=me.out)
    me("cp", "box:/file", me.out / "file")
    assert (me.out / "file").read_text() == "x"
    me("rm", "box")


@pytest.fixture
def running(pybuild: Pybuild) -> Iterator[Pybuild]:
    pybuild("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    yield pybuild
    pybuild("rm", "-f", "box")


def test_a_file_goes_where_a_link_leads(running: Pybuild) -> None:
    running("exec", "box", "sh", "-c", "echo old >/target; ln -s target /link; ln -s missing /loose")
    (running.out / "new").write_text("new\n")
    for link, target in (("link", "target"), ("loose", "missing")):
        running("cp", running.out / "new", f"box:/{link}")
        assert running("exec", "box", "cat", f"/{target}").stdout == "new\n"
        assert running("exec", "box", "readlink", f"/{link}").stdout == f"{target}\n"
    (running.out / "mine").symlink_to("there")
    running("cp", "-L", "box:/link", running.out / "mine")
    assert (running.out / "there").read_text() == "new\n"


def test_a_tar_from_stdin_may_be_compressed(running: Pybuild) -> None:
    (running.out / "packed").write_text("packed\n")
    for form in ("--gzip", "--bzip2", "--xz"):
        tar = ["tar", "c", form, "packed"]
        with subprocess.Popen(tar, cwd=running.out, stdout=subprocess.PIPE) as packing:
            running("cp", "-", "box:/tmp", stdin=packing.stdout)
        assert running("exec", "box", "cat", "/tmp/packed").stdout == "packed\n"
        running("exec", "box", "rm", "/tmp/packed")
