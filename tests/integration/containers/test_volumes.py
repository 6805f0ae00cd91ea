"""Volumes and mounts of containers, as every kind of user."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.runner import Pybuild

DOCKERFILE = """
FROM busybox
RUN mkdir -p /data/sub && echo image > /data/file && chown 5:6 /data/file && ln -s file /data/link
VOLUME /data
"""


@pytest.fixture
def image(pybuild: Pybuild) -> Pybuild:
    pybuild("build", "-t", "withdata", pybuild.context({"Dockerfile": DOCKERFILE}))
    return pybuild


def test_a_named_volume_outlives_containers(image: Pybuild) -> None:
    image(
        "run", "--rm", "-v", "mine:/data", "withdata", "sh", "-c", "cat /data/link; echo more >> /data/file"
    )
    assert image("run", "--rm", "-v", "mine:/elsewhere", "busybox", "cat", "/elsewhere/file").stdout == (
        "image\nmore\n"
    )
    assert image("volume", "ls", "-q").stdout == "mine\n"
    document = json.loads(image("volume", "inspect", "mine").stdout)[0]
    assert document["Driver"] == "local" and document["Mountpoint"].endswith("/volumes/mine/data")
    image("create", "--name", "user", "-v", "mine:/x", "busybox")
    assert "in use by user" in image("volume", "rm", "mine", status=1).stderr
    image("rm", "-v", "user")
    assert image("volume", "ls", "-q").stdout == "mine\n", "rm -v takes anonymous ones only"
    assert image("volume", "rm", "mine").stdout == "mine\n"
    assert "no such volume" in image("volume", "rm", "mine", status=1).stderr
    image("volume", "rm", "-f", "mine")


def test_anonymous_volumes_go_with_their_container(image: Pybuild) -> None:
    image("run", "--name", "one", "withdata", "sh", "-c", "echo kept > /data/file")
    (name,) = image("volume", "ls", "-q").stdout.split()
    assert len(name) == 64
    assert image("run", "--rm", "--volumes-from", "one", "busybox", "cat", "/data/file").stdout == "kept\n"
    readonly = image("run", "--rm", "--volumes-from", "one:ro", "busybox", "touch", "/data/x", status=1)
    assert "Read-only" in readonly.stderr
    assert image("start", "-a", "one").status == 0
    image("create", "--name", "two", "--volumes-from", "one", "busybox")
    image("rm", "-v", "one")
    assert image("volume", "ls", "-q").stdout.split() == [name], "another container has it"
    image("rm", "two")
    assert image("volume", "ls", "-q", "-f", "dangling=true").stdout.split() == [name]
    assert name in image("volume", "prune", "-f").stdout
    assert image("volume", "ls", "-q").stdout == ""
    image("run", "--rm", "withdata", "true")
    assert image("volume", "ls", "-q").stdout == ""


def test_labels_filters_and_prune(pybuild: Pybuild) -> None:
    pybuild("volume", "create", "--label", "role=db", "one")
    pybuild("volume", "create", "two")
    assert pybuild("volume", "create", "one").stdout == "one\n"
    assert pybuild("volume", "ls", "-q", "-f", "label=role=db").stdout == "one\n"
    assert pybuild("volume", "ls", "--format", "{{.Name}}: {{.Labels}}").stdout == "one: role=db\ntwo: \n"
    assert "Deleted" not in pybuild("volume", "prune", "-f").stdout
    assert "two" in pybuild("volume", "prune", "-af", "--filter", "label!=role=db").stdout
    assert pybuild("volume", "ls", "-q").stdout == "one\n"
    assert "asks before" in pybuild("volume", "prune", status=2).stderr
    pybuild("volume", "prune", "-a", input="n\n", status=1)
    assert pybuild("volume", "ls", "-q").stdout == "one\n"
    assert "one" in pybuild("volume", "prune", "-a", input="y\n").stdout


def test_bind_mounts(pybuild: Pybuild) -> None:
    place = pybuild.out / "bound"
    pybuild("run", "--rm", "-v", f"{place}:/m", "busybox", "sh", "-c", "echo x > /m/file; mkdir /m/sub")
    found = os.lstat(place / "file")
    assert (found.st_uid, found.st_gid) == (pybuild.person.uid, pybuild.person.gid), "root's files are ours"
    assert (
        "Read-only"
        in pybuild("run", "--rm", "-v", f"{place}:/m:ro,z", "busybox", "touch", "/m/y", status=1).stderr
    )
    assert pybuild("run", "--rm", "-v", f"{place}/file:/f", "busybox", "cat", "/f").stdout == "x\n"
    missing = f"type=bind,source={place}/none,target=/m"
    assert "there is no" in pybuild("run", "--rm", "--mount", missing, "busybox", "true", status=125).stderr
    subpath = "type=volume,source=v,target=/m,volume-subpath=sub"
    pybuild(
        "run", "--rm", "-v", "v:/v", "busybox", "sh", "-c", "mkdir /v/sub; echo s > /v/sub/f; ln -s / /v/out"
    )
    assert pybuild("run", "--rm", "--mount", subpath, "busybox", "cat", "/m/f").stdout == "s\n"
    escaping = "type=volume,source=v,target=/m,volume-subpath=out/etc"
    assert pybuild("run", "--rm", "--mount", escaping, "busybox", "true", status=125).stderr
    for option in ("rshared", "nonsense"):
        text = f"{place}:/m:{option}"
        assert f"'{option}'" in pybuild("run", "--rm", "-v", text, "busybox", "true", status=125).stderr
    assert pybuild("ps", "-aq").stdout == ""


def test_options_of_mounts(pybuild: Pybuild) -> None:
    def failed(*options: str) -> str:
        return pybuild("run", "--rm", *options, "busybox", "true", status=125).stderr

    made = "type=volume,source=v,target=/m,volume-label=a=b,volume-label=c"
    pybuild("run", "--rm", "--mount", made, "busybox", "true")
    assert pybuild("volume", "inspect", "-f", "{{json .Labels}}", "v").stdout == '{"a":"b","c":""}\n'
    place = pybuild.out / "bound"
    place.mkdir()
    pybuild.person.own(place)
    device = (
        f"type=volume,source=w,target=/m,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={place}"
    )
    pybuild("run", "--rm", "--mount", device, "busybox", "touch", "/m/file")
    assert (place / "file").exists()

    assert "'../..' is no path inside" in failed("--mount", "source=v,target=/m,volume-subpath=../..")
    assert "is a directory and can't be mounted on /etc/passwd" in failed("-v", f"{place}:/etc/passwd")
    assert "is a file and can't be mounted on /etc" in failed("-v", f"{place}/file:/etc")
    assert "mode=0999 is not an octal mode" in failed("--mount", "type=tmpfs,target=/m,tmpfs-mode=0999")
    options = "/m:size=50%,nr_inodes=100,noatime,suid"
    shown = pybuild("run", "--rm", "--tmpfs", options, "busybox", "grep", " /m ", "/proc/mounts").stdout
    words = shown.split()[3].split(",")
    assert {"noatime", "nr_inodes=100", "noexec", "nodev"} <= set(words)
    assert "nosuid" not in words
    assert any(word.startswith("size=") for word in words)


def test_what_is_mounted_below_a_bind_mount(root: Pybuild) -> None:

    place = root.out / "bound"
    (place / "below").mkdir(parents=True)
    (root.out / "other").mkdir()
    (root.out / "other" / "file").touch()
    script = f"mount --bind {root.out}/other {place}/below && exec "
    program = " ".join(root.program.argv)
    for options, listed, written in (
        ("", "file", "xy"),
        (",bind-recursive=disabled", "", "xy"),
        (",readonly", "file", ""),
        (",readonly,bind-recursive=writable", "file", "y"),
        (",readonly,bind-recursive=readonly", "file", ""),
    ):
        mount = f"type=bind,source={place},target=/m{options}"
        inside = "ls /m/below; (echo > /m/x) && echo x; (echo > /m/below/y) && echo y; rm -f /m/x /m/below/y"
        run = f"{program} run --rm --mount {mount} busybox sh -c '{inside}'"
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script + run],
            env=root.environment,
            cwd=root.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.split() == [*listed.split(), *written], options + done.stderr


def test_a_mount_is_made_the_containers_users(ids: Pybuild) -> None:
    place = ids.out / "bound"
    place.mkdir()
    (place / "file").write_text("x")
    ids.person.own(place)
    command = ("busybox", "sh", "-c", "echo mine > /m/file")
    ids("run", "--rm", "-u", "7", "-v", f"{place}:/m", *command, status=1)
    ids("run", "--rm", "-u", "7", "-v", f"{place}:/m:U", *command)
    assert (place / "file").read_text() == "mine\n"
    ids("run", "--rm", "-v", f"{place}:/m:U", "busybox", "true")
    assert os.lstat(place / "file").st_uid == ids.person.uid


def test_tmpfs(pybuild: Pybuild) -> None:
    script = "mount | grep ' /t '; echo 'echo hi' > /t/x; chmod +x /t/x; /t/x"
    done = pybuild("run", "--rm", "--tmpfs", "/t:size=1m,mode=700", "busybox", "sh", "-c", script, status=126)
    assert "noexec" in done.stdout and "size=1024k" in done.stdout
    assert pybuild("run", "--rm", "--tmpfs", "/t:exec", "busybox", "sh", "-c", script).stdout.endswith("hi\n")


def test_a_disk_that_is_full(root: Pybuild, tmp_path: Path) -> None:
    """Of the volume's: told by the container; of the store's: told by us, and nothing is left."""
    small = tmp_path / "small"
    small.mkdir()
    os.system(f"mount -t tmpfs -o size=2m tmpfs {small}")
    try:
        full = root("run", "--rm", "-v", f"{small}:/m", "busybox", "dd", "if=/dev/zero", "of=/m/x", status=1)
        assert "No space left" in full.stderr
    finally:
        os.system(f"umount {small}")
    assert root("ps", "-aq").stdout == ""


@pytest.mark.needs("crun")
def test_the_whole_machine(pybuild: Pybuild) -> None:
    """``-v /:/host``: its root, not what a container's root is put together on."""
    (pybuild.out / "mark").write_text("here\n")
    for runtime in ((), ("--runtime", "crun")):
        words = ("run", "--rm", *runtime, "-v", "/:/host:ro", "busybox", "cat", f"/host{pybuild.out}/mark")
        assert pybuild(*words).stdout == "here\n"
