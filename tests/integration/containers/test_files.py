"""A container's files: diff, export, commit."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile

import pytest

from tests.support.containers import ready
from tests.support.runner import Pybuild

CHANGES = (
    "echo new > /new; rm /bin/ls; mkdir -p /etc/more/deep; echo x > /etc/more/deep/f; ln -s /new /link; "
    "chown 5:6 /new; chown -h 7:8 /link; chmod 4755 /bin/cat; rm -r /var; mkdir /var; touch /var/mine"
)


@pytest.fixture
def changed(pybuild: Pybuild) -> Pybuild:
    pybuild("run", "--name", "box", "-v", "data:/data", "busybox", "sh", "-c", CHANGES + "; touch /data/x")
    return pybuild


@pytest.mark.needs("overlay")
@pytest.mark.parametrize(("words", "waits"), [((), True), (("--rm",), False)])
def test_fsync_waits_for_the_disk_where_files_stay(
    pybuild: Pybuild, words: tuple[str, ...], waits: bool
) -> None:
    done = pybuild("run", *words, "busybox", "sh", "-c", "grep ' / ' /proc/mounts; echo x > /x; sync /x")
    assert " overlay " in done.stdout
    assert ("volatile" not in done.stdout) == waits


def tar_of(pybuild: Pybuild, *words: str) -> tarfile.TarFile:
    with pybuild.start(*words, text=False, errors=None, stdout=subprocess.PIPE) as process:
        data, errors = process.communicate()
    assert process.returncode == 0, errors
    return tarfile.open(fileobj=io.BytesIO(data))  # type: ignore[arg-type]


def test_diff(changed: Pybuild) -> None:
    lines = set(changed("diff", "box").stdout.splitlines())
    assert {"A /new", "D /bin/ls", "C /bin", "A /etc/more/deep/f", "A /link", "C /bin/cat"} <= lines
    assert "A /var/mine" in lines and "C /var" in lines
    assert not any("hosts" in line or "resolv" in line or line.startswith("A /proc") for line in lines)
    changed("rm", "-v", "box")


def test_export_and_import(changed: Pybuild) -> None:
    with tar_of(changed, "export", "box") as tar:
        members = {m.name: m for m in tar.getmembers()}
        assert tar.extractfile("new").read() == b"new\n"  # type: ignore[union-attr]
    assert (members["new"].uid, members["new"].gid) == (5, 6)
    assert (members["link"].uid, members["link"].linkname) == (7, "/new")
    assert members["bin/cat"].mode == 0o4755
    assert "bin/ls" not in members and "data/x" not in members
    changed("rm", "box")


def test_commit(changed: Pybuild) -> None:
    flags = ("-c", 'CMD ["cat", "/new"]', "-c", "ENV A=1", "-a", "Somebody", "-m", "tried")
    id = changed("commit", *flags, "box", "made:1").stdout.strip()
    document = json.loads(changed("inspect", "made:1").stdout)[0]
    assert document["Id"] == id
    assert document["Config"]["Cmd"] == ["cat", "/new"]
    assert "A=1" in document["Config"]["Env"]
    assert document["Author"] == "Somebody"
    assert document["History"][-1]["comment"] == "tried"
    assert changed("run", "--rm", "made:1").stdout == "new\n"
    changed("create", "--name", "two", "made:1")
    with tar_of(changed, "export", "two") as tar:
        owners = {name: (tar.getmember(name).uid, tar.getmember(name).gid) for name in ("new", "link")}
    assert owners == {"new": (5, 6), "link": (7, 8)}
    changed("run", "--rm", "made:1", "test", "-e", "/bin/ls", status=1)
    # The container goes on by itself.
    changed("start", "box")
    changed("wait", "box")
    assert changed("run", "--rm", "made:1").stdout == "new\n"
    changed("rm", "box", "two")


def test_commit_of_one_that_runs(pybuild: Pybuild) -> None:
    script = "echo 1 > /file; echo ready; while :; do echo more >> /file; done"
    pybuild("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    pybuild("exec", "box", "sh", "-c", "until [ -s /file ]; do :; done")
    pybuild("commit", "box", "made:1")
    assert pybuild("inspect", "-f", "{{.State.Status}}", "box").stdout == "running\n"
    assert pybuild("run", "--rm", "made:1", "head", "-1", "/file").stdout == "1\n"
    assert "--change cannot be RUN" in pybuild("commit", "-c", "RUN x", "box", status=2).stderr
    pybuild("rm", "-f", "box")


def test_files_without_overlay(me: Pybuild) -> None:
    """Where overlay can't be mounted a root is a copy: the same answers."""
    copying = {"PYBUILD_SNAPSHOTTER": "copy"}
    me("run", "--name", "box", "busybox", "sh", "-c", "echo new > /new; rm /bin/ls", env=copying)
    lines = me("diff", "box", env=copying).stdout.splitlines()
    assert "A /new" in lines and "D /bin/ls" in lines and not any("/bin/cat" in line for line in lines)
    me("commit", "box", "made:1", env=copying)
    assert me("run", "--rm", "made:1", "cat", "/new", env=copying).stdout == "new\n"
    me("run", "--rm", "made:1", "test", "-e", "/bin/ls", env=copying, status=1)
    assert me("start", "-a", "box", env=copying, status=None).status in (0, 1)
    me("rm", "box", env=copying)


def test_export_into_the_container_itself(pybuild: Pybuild) -> None:
    """The reader is paused, too, while the files are read."""
    fill = "mkdir /copy; head -c 3000000 /dev/urandom > /big; echo ready; sleep 1000"
    pybuild("run", "-d", "--name", "box", "busybox", "sh", "-c", fill)
    ready(pybuild, "box")
    with pybuild.start("export", "box", text=False, errors=None) as export:
        pybuild("exec", "-i", "box", "tar", "x", "-C", "/copy", stdin=export.stdout, timeout=60)
        export.wait()
    assert export.returncode == 0
    pybuild("exec", "box", "cmp", "/big", "/copy/big")
    pybuild("rm", "-f", "box")
