"""Archives and directories: what other tools make of ours, and we of theirs."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from buildkit_py.errors import ImageError, UsageError
from buildkit_py.exporter.save import Wanted, save
from buildkit_py.exporter.spec import PLAIN
from buildkit_py.image import archive
from buildkit_py.source.load import Loaded, load
from tests.integration.registry.conftest import WorkbenchMaker
from tests.integration.registry.workbench import Workbench

pytestmark = pytest.mark.needs("root")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(bench: Workbench, path: Path) -> list[Loaded]:
    return load(bench.content, bench.images, archive.opened(bench.content, str(path)))


@pytest.mark.parametrize("kind", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_our_archive_read_by_us(
    workbench: WorkbenchMaker, tmp_path: Path, kind: str, compression: str
) -> None:
    here, there = workbench(), workbench()
    product, image = here.build("app:1")
    dest = tmp_path / "out.tar"
    told = here.export(f"type={kind},dest={dest},compression={compression}", product)
    assert told["containerimage.config.digest"] == image.id
    assert loaded(there, dest) == [Loaded(image.id, ("docker.io/library/app:1",))]
    assert there.files(there.sources.unpack(image.id)) == here.files(product.snapshot)


def test_an_archive_is_the_same_each_time(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    one, two = workbench(), workbench()
    for number, bench in enumerate((one, two, two)):
        product, _ = bench.build("app:1")
        bench.export(f"type=docker,dest={tmp_path}/{number}", product)
    first = (tmp_path / "0").read_bytes()
    # mtimes of what the test made differ between stores, not within one.
    assert len(first) > 1024 and (tmp_path / "1").stat().st_size == len(first)


def test_an_archive_appears_whole_or_not_at_all(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    bench = workbench()
    product, _ = bench.build()
    dest = tmp_path / "out.tar"
    dest.write_text("precious")
    info = bench.snapshots.chain(product.snapshot)[-1]
    (Path(bench.snapshots.layer_path(info)) / "data" / "file").write_text("changed behind our back")
    with pytest.raises(Exception, match="changed in the store"):
        bench.export(f"type=oci,dest={dest}", product)
    assert dest.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_where_an_archive_cannot_go(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    bench = workbench()
    product, _ = bench.build()
    for dest in (tmp_path, tmp_path / "none" / "out.tar"):
        with pytest.raises(UsageError, match="cannot write"):
            bench.export(f"type=oci,dest={dest}", product)
    bench.export("type=oci,dest=/dev/null", product)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_skopeo(workbench: WorkbenchMaker, tmp_path: Path, transport: str) -> None:
    here, there = workbench(), workbench()
    product, image = here.build("app:1")
    here.export(f"type=docker,dest={tmp_path}/ours.tar", product)
    run("skopeo", "copy", "-q", f"{transport}:{tmp_path}/ours.tar", f"dir:{tmp_path}/dir")
    manifest = json.loads((tmp_path / "dir" / "manifest.json").read_text())
    assert manifest["config"]["digest"] == image.id
    theirs = f"{transport}:{tmp_path}/theirs.tar:x.io/app:2"
    run("skopeo", "copy", "-q", f"{transport}:{tmp_path}/ours.tar", theirs)
    assert loaded(there, tmp_path / "theirs.tar") == [Loaded(image.id, ("x.io/app:2",))]
    assert there.files(there.sources.unpack(image.id)) == here.files(product.snapshot)


@pytest.mark.needs("umoci")
def test_umoci(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    here, there = workbench(), workbench()
    product, image = here.build("app:1")
    here.export(f"type=oci,dest={tmp_path}/ours.tar", product)
    layout = tmp_path / "layout"
    layout.mkdir()
    run("tar", "-C", layout, "-xf", tmp_path / "ours.tar")
    run("umoci", "unpack", "--image", f"{layout}:1", tmp_path / "bundle")
    rootfs = tmp_path / "bundle" / "rootfs"
    found = {}
    for path, (mode, uid, gid, text) in here.files(product.snapshot).items():
        file = rootfs / path
        st = file.lstat()
        shown = os.readlink(file) if file.is_symlink() else file.read_text() if file.is_file() else ""
        found[path] = (st.st_mode, st.st_uid, st.st_gid, shown)
        assert found[path] == (mode, uid, gid, text)
    assert not (rootfs / "old").exists()
    (rootfs / "more").write_text("more")
    run("umoci", "repack", "--image", f"{layout}:2", tmp_path / "bundle")
    ids = [each.id for each in loaded(there, layout)]
    assert image.id in ids and len(ids) == 2
    other = next(i for i in ids if i != image.id)
    assert there.files(there.sources.unpack(other)) == {
        **here.files(product.snapshot),
        "more": (0o100644, 0, 0, "more"),
    }


@pytest.mark.needs("podman")
def test_podman(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    here, there = workbench(), workbench()
    product, image = here.build("app:1")
    here.export(f"type=docker,dest={tmp_path}/ours.tar", product)
    # podman takes no runroot whose path is longer than 50 characters.
    runroot = tempfile.mkdtemp(prefix="podman-")
    podman = ("podman", "--root", tmp_path / "p", "--runroot", runroot, "--storage-driver", "vfs")
    try:
        run(*podman, "load", "-q", "-i", tmp_path / "ours.tar")
        assert run(*podman, "images", "-q", "--no-trunc").strip() == image.id
        for form in ("docker-archive", "oci-archive"):
            dest = tmp_path / f"{form}.tar"
            run(*podman, "save", "-q", "--format", form, "-o", dest, "docker.io/library/app:1")
            bench = there if form == "docker-archive" else workbench()
            (found,) = loaded(bench, dest)
            assert bench.files(bench.sources.unpack(found.id)) == here.files(product.snapshot)
    finally:
        shutil.rmtree(tmp_path / "p", ignore_errors=True)
        shutil.rmtree(runroot, ignore_errors=True)


def test_saving_what_was_loaded(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    here, there, third = workbench(), workbench(), workbench()
    product, image = here.build("app:1")
    here.export(f"type=docker,dest={tmp_path}/a.tar", product)
    with open(tmp_path / "a.tar", "rb") as plain, gzip.open(tmp_path / "a.tar.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    loaded(there, tmp_path / "a.tar.gz")
    wanted = Wanted([there.images.find("app:1")], ("app:1", "b:2"), PLAIN, False)
    save([wanted], str(tmp_path / "b.tar"), there.stores)
    found = loaded(third, tmp_path / "b.tar")
    assert found == [Loaded(image.id, ("docker.io/library/app:1", "docker.io/library/b:2"))]


def test_an_archive_whose_second_layer_is_another(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    here, there = workbench(), workbench()
    product, _ = here.build("app:1")
    here.export(f"type=docker,dest={tmp_path}/a.tar", product)
    (tmp_path / "a").mkdir()
    run("tar", "-xf", tmp_path / "a.tar", "-C", tmp_path / "a")
    (entry,) = json.loads((tmp_path / "a/manifest.json").read_text())
    for layer in entry["Layers"]:
        tar = tmp_path / "a" / layer
        data = tar.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        tar.unlink()
        tar.write_bytes(data + bytes(512) if layer == entry["Layers"][-1] else data)
    names = ("manifest.json", entry["Config"], *entry["Layers"])
    run("tar", "-cf", tmp_path / "b.tar", "-C", tmp_path / "a", *names)
    with pytest.raises(ImageError, match="unpacks to"):
        loaded(there, tmp_path / "b.tar")
    assert there.images.images() == [] and list(there.content.digests()) == []


def test_a_layout_with_a_directory_in_place_of_a_blob(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    here, there = workbench(), workbench()
    product, image = here.build("app:1")
    here.export(f"type=oci,dest={tmp_path}/lay,tar=false", product)
    blob = tmp_path / "lay/blobs/sha256" / image.id[7:]
    blob.unlink()
    blob.mkdir()
    with pytest.raises(ImageError, match=f"lacks the blob {image.id}"):
        loaded(there, tmp_path / "lay")


def test_tar(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    bench = workbench()
    product, _ = bench.build()
    bench.export(f"type=tar,dest={tmp_path}/t.tar", product)
    with tarfile.open(tmp_path / "t.tar") as tar:
        members = {member.name: member for member in tar}
    assert set(members) == set(bench.files(product.snapshot))
    assert members["bin/y"].islnk() and members["bin/y"].linkname == "bin/x"
    assert members["bin/x"].mode == 0o4755
    assert (members["data/file"].uid, members["data/file"].gid) == (1000, 100)
    assert members["data/file"].mtime == pytest.approx(1_600_000_000.123456)
    assert members["sh"].issym()


def test_local(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    bench = workbench()
    product, _ = bench.build()
    dest = tmp_path / "out"
    dest.mkdir()
    (dest / "mine").write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (dest / "data").symlink_to(outside)
    bench.export(f"type=local,dest={dest}", product)
    assert (dest / "mine").read_text() == "mine" and list(outside.iterdir()) == []
    assert (dest / "data" / "file").read_text() == "hello" and not (dest / "old").exists()
    assert (dest / "data" / "file").stat().st_uid == os.geteuid()
    assert stat.S_IMODE((dest / "bin" / "x").stat().st_mode) == 0o755, "no set-id files of the user"
    assert (dest / "bin" / "x").samefile(dest / "bin" / "y")
    store = Path(bench.snapshots.layer_path(bench.snapshots.chain(product.snapshot)[0])) / "bin" / "x"
    assert not store.samefile(dest / "bin" / "x"), "the store is never shared with the user's files"
    assert (dest / "data" / "file").stat().st_mtime_ns == 1_600_000_000_123_456_789
    bench.export(f"type=local,dest={dest}", product)


def test_two_platforms(workbench: WorkbenchMaker, tmp_path: Path) -> None:
    bench, there = workbench(), workbench()
    product, _ = bench.build("app:1")
    arm = bench.product(product.snapshot, "app:1")
    arm = arm._replace(platform="linux/arm64", config=arm.config.replace(b"amd64", b"arm64"))
    bench.export(f"type=oci,dest={tmp_path}/two.tar", product, arm)
    bench.export(f"type=local,dest={tmp_path}/two", product, arm)
    assert {p.name for p in (tmp_path / "two").iterdir()} == {"linux_amd64", "linux_arm64"}
    assert len(loaded(there, tmp_path / "two.tar")) == 2
    for name in ("linux/amd64", "linux/arm64"):
        assert there.images.find("app:1", name).platform == name
