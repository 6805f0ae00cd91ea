"""Other programs read our images, and we read theirs: skopeo, umoci and podman, all of Debian."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.registry import Registry
from tests.support.runner import Pybuild
from tests.support.trees import Image, differences, read_archive, read_layout, read_registry

# Something of all that a layer can say: modes, owners, links, whiteouts, an opaque directory, odd names.
DOCKERFILE = """\
FROM busybox AS first
RUN mkdir -p /data/keep /data/gone /data/swap && echo 1 > /data/keep/one && echo 2 > /data/gone/two \\
    && echo 3 > /data/swap/three && ln -s keep/one /data/link && ln /data/keep/one /data/hard \\
    && mkfifo /data/fifo && chmod 4755 /data/keep/one && chmod 1777 /data/keep
FROM first
RUN rm -r /data/gone && rm -r /data/swap && mkdir /data/swap && echo 4 > /data/swap/four \\
    && chown 7:8 /data/swap/four && touch "/data/with space" /data/é
ENV GREETING="hello there" EMPTY=
LABEL a.b="c d"
WORKDIR /data/work
USER 7:8
EXPOSE 80/tcp
VOLUME /vol
STOPSIGNAL SIGUSR1
ENTRYPOINT ["/bin/echo"]
CMD ["$GREETING"]
"""


def built(pybuild: Pybuild, tag: str, *words: str) -> None:
    pybuild("build", "-t", tag, *words, pybuild.context({"Dockerfile": DOCKERFILE}))


def archive(pybuild: Pybuild, tag: str) -> Path:
    path = pybuild.out / f"{tag.replace('/', '_').replace(':', '_')}.tar"
    pybuild("save", "--format=oci", "-o", path, tag)
    return path


def tool(registry: Registry, folder: Path, *argv: str | Path) -> str:
    """Run a peer with a home of its own; fails with what it said."""
    environment = {
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "CONTAINERS_REGISTRIES_CONF": str(registry.containers_conf),
        "TMPDIR": str(folder),
    }
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def same(ours: Image, theirs: Image) -> None:
    assert ours.config == theirs.config
    assert differences(ours.tree, theirs.tree) == {}


@pytest.fixture
def bench(workshop: Path) -> Path:
    """A folder for a peer's own files."""
    place = workshop / "peer"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    return place


def check_tree(image: Image) -> None:
    tree = image.tree
    assert "/data/gone" not in tree and "/data/swap/three" not in tree
    assert tree["/data/swap/four"][1:4] == (0o644, 7, 8)
    assert (tree["/data/keep/one"].mode, tree["/data/keep"].mode) == (0o4755, 0o1777)
    assert tree["/data/link"].target == "keep/one"
    assert tree["/data/fifo"].kind == "p"
    assert tree["/data/hard"] == tree["/data/keep/one"]
    assert {"/data/with space", "/data/é"} <= tree.keys()


def test_what_is_built_is_what_was_asked_for(pybuild: Pybuild) -> None:
    built(pybuild, "mix:1")
    image = read_archive(archive(pybuild, "mix:1"))
    check_tree(image)
    config = image.config["config"]
    assert config["User"] == "7:8" and config["WorkingDir"] == "/data/work"
    assert config["StopSignal"] == "SIGUSR1" and config["Volumes"] == {"/vol": {}}


def test_the_same_digests_whoever_builds(pybuild: Pybuild, me: Pybuild) -> None:
    context = {"Dockerfile": "FROM busybox\nCOPY a /a\nCOPY --chown=5:6 a /b\nWORKDIR /w\n", "a": "a"}
    ids = [p("build", "-q", "-t", "x", p.context(context)).stdout for p in (pybuild, me)]
    assert ids[0] == ids[1]


@pytest.mark.needs("skopeo")
def test_skopeo_reads_every_archive(me: Pybuild, bases: Registry, bench: Path) -> None:
    built(me, "mix:1")
    ours = read_archive(archive(me, "mix:1"))
    context = me.context({"Dockerfile": DOCKERFILE})
    for kind, transport in (("oci", "oci-archive"), ("docker", "docker-archive")):
        path = me.out / f"{kind}.tar"
        me("build", "-t", "mix:1", "-o", f"type={kind},dest={path}", context)
        tool(bases, bench, "skopeo", "copy", f"{transport}:{path}", f"oci:{bench}/{kind}:mix")
        same(ours, read_layout(bench / kind))


@pytest.mark.needs("skopeo")
def test_skopeo_reads_what_we_pushed(pybuild: Pybuild, bases: Registry, bench: Path) -> None:
    tag = f"{bases.address}/interop/mix:{pybuild.person.kind}"
    built(pybuild, tag)
    pybuild("push", tag)
    tool(
        bases, bench, "skopeo", "copy", "--src-tls-verify=false", f"docker://{tag}", f"oci:{bench}/pushed:mix"
    )
    pushed = read_layout(bench / "pushed")
    check_tree(pushed)
    same(read_archive(archive(pybuild, tag)), pushed)


@pytest.mark.needs("umoci", "root")
def test_umoci_unpacks_our_layout(root: Pybuild, bases: Registry, bench: Path) -> None:
    path = root.out / "mix.tar"
    root("build", "-t", "mix:1", "-o", f"type=oci,dest={path}", root.context({"Dockerfile": DOCKERFILE}))
    layout = bench / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-xf", path, "-C", layout], check=True)
    index = json.loads((layout / "index.json").read_text())
    name = index["manifests"][0].get("annotations", {}).get("org.opencontainers.image.ref.name", "")
    assert name, "umoci finds images by this annotation alone"
    tool(bases, bench, "umoci", "unpack", "--image", f"{layout}:{name}", f"{bench}/bundle")
    rootfs = bench / "bundle" / "rootfs"
    ours = read_archive(path).tree
    for place, entry in ours.items():
        found = (rootfs / place.lstrip("/")).lstat()
        assert (found.st_uid, found.st_gid) == (entry.uid, entry.gid), place
        if entry.kind != "l":
            assert found.st_mode & 0o7777 == entry.mode, place
    assert len(list(rootfs.rglob("*"))) == len(ours.keys() - {"/"})


@pytest.mark.needs("podman", "root")
def test_podman_runs_our_image(root: Pybuild, bases: Registry, bench: Path) -> None:
    built(root, "localhost/mix:1")
    path = root.out / "mix.tar"
    root("save", "-o", path, "localhost/mix:1")
    podman = ["podman", f"--root={bench}/store", f"--runroot={bench}/run", "--cgroup-manager=cgroupfs"]
    podman += ["--storage-driver=vfs"]
    tool(bases, bench, *podman, "load", "-i", path)
    shown = json.loads(tool(bases, bench, *podman, "inspect", "localhost/mix:1"))[0]
    ours = json.loads(root("inspect", "localhost/mix:1").stdout)[0]
    assert shown["Id"] == ours["Id"].removeprefix("sha256:")
    assert shown["Config"]["Entrypoint"] == ["/bin/echo"] and shown["User"] == "7:8"
    assert shown["RootFS"]["Layers"] == ours["RootFS"]["Layers"]


@pytest.mark.needs("umoci", "skopeo", "root")
def test_an_image_by_umoci_is_a_base_here(pybuild: Pybuild, bases: Registry, bench: Path) -> None:
    """umoci adds a layer and a config to busybox, skopeo pushes it, and a Dockerfile builds on it."""
    layout, bundle = bench / "layout", bench / "bundle"
    source = f"docker://{bases.address}/library/busybox:latest"
    tool(bases, bench, "skopeo", "copy", "--src-tls-verify=false", source, f"oci:{layout}:base")
    tool(bases, bench, "umoci", "unpack", "--image", f"{layout}:base", bundle)
    made = bundle / "rootfs" / "made"
    made.mkdir()
    (made / "by-umoci").write_text("yes\n")
    os.chown(made / "by-umoci", 33, 33)
    (made / "by-umoci").chmod(0o2640)
    (bundle / "rootfs" / "etc" / "group").unlink()
    tool(bases, bench, "umoci", "repack", "--image", f"{layout}:new", bundle)
    tool(bases, bench, "umoci", "config", "--image", f"{layout}:new", "--config.env", "BY=umoci")
    target = f"{bases.address}/interop/by-umoci:1"
    tool(bases, bench, "skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:new", f"docker://{target}")
    context = pybuild.context({"Dockerfile": f"FROM {target}\nRUN echo $BY > /by && test ! -e /etc/group\n"})
    pybuild("build", "-t", "child", context)
    child = read_archive(archive(pybuild, "child"))
    parent = read_registry(bases.get, "interop/by-umoci", "1")
    changed = differences(child.tree, parent.tree)
    assert changed == {"/by": "only in ours"}
    assert child.tree["/made/by-umoci"][1:4] == (0o2640, 33, 33)
    assert "BY=umoci" in child.config["config"]["Env"]


@pytest.mark.needs("buildah", "skopeo", "root")
@pytest.mark.parametrize("form", ["oci", "docker"])
def test_archives_by_others_load_here(form: str, me: Pybuild, bases: Registry, bench: Path) -> None:
    path = me.out / "theirs.tar"
    source = f"docker://{bases.address}/library/busybox:latest"
    theirs = bench / "theirs.tar"
    tool(
        bases, bench, "skopeo", "copy", "--src-tls-verify=false", source, f"{form}-archive:{theirs}:theirs:1"
    )
    shutil.copy(theirs, path)
    me.person.own(path)
    me("load", "-i", path)
    done = me("run", "--rm", "theirs:1", "echo", "it runs")
    assert done.stdout == "it runs\n"
    assert differences(read_archive(archive(me, "theirs:1")).tree, read_archive(theirs).tree) == {}
