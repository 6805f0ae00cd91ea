"""The kinds of build context: where they come from, and which rules they follow."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.runner import Pybuild
from tests.support.web import Page, Repository, Web

pytestmark = pytest.mark.needs("git")
SHOW = "FROM busybox\nCOPY . /src\nRUN cd /src && find . | sort && stat -c 'owner %u:%g %n' *\n"


def _tar(files: dict[str, str], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mode = len(text), 4711, 0o000 if name == "secret" else 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def _stdin(tmp_path: Path, data: bytes) -> int:
    path = tmp_path / "stdin"
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


def _build_with_stdin(
    pybuild: Pybuild, tmp_path: Path, data: bytes, *words: str | Path, status: int = 0
) -> str:
    fd = _stdin(tmp_path, data)
    try:
        return pybuild("build", "--progress=plain", *words, status=status, stdin=fd).stderr
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_on_stdin(pybuild: Pybuild, tmp_path: Path, mode: str) -> None:
    files = {"Dockerfile": SHOW, "f": "1", "secret": "2", ".dockerignore": "f\n"}
    told = _build_with_stdin(pybuild, tmp_path, _tar(files, mode), "-")
    for line in ("./.dockerignore", "./f", "./secret", "owner 0:0 f"):
        assert f" {line}\n" in told, told
    assert list(pybuild.store.glob("staging/*")) == []


def test_tar_on_stdin_and_file(me: Pybuild, tmp_path: Path) -> None:
    files = {
        "d/My.Dockerfile": "FROM scratch\nCOPY d /\n",
        "dockerfile": "FROM scratch\nCOPY dockerfile /low\n",
    }
    _build_with_stdin(me, tmp_path, _tar(files), "-f", "d/My.Dockerfile", "-o", me.out / "1", "-")
    assert (me.out / "1/My.Dockerfile").exists()
    _build_with_stdin(me, tmp_path, _tar(files), "-o", me.out / "2", "-")
    assert (me.out / "2/low").exists()
    assert "has no nowhere" in _build_with_stdin(me, tmp_path, _tar(files), "-f", "nowhere", "-", status=1)


def test_dockerfile_link_of_a_tar_stays_inside(me: Pybuild, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    told = _build_with_stdin(me, tmp_path, out.getvalue(), "-", status=1)
    assert "has no Dockerfile" in told


@pytest.mark.parametrize("name", ["../up", "/../up", "a/../../up"])
def test_tar_that_climbs(me: Pybuild, tmp_path: Path, name: str) -> None:
    told = _build_with_stdin(me, tmp_path, _tar({"Dockerfile": SHOW, name: "!"}), "-", status=1)
    assert "outside" in told
    assert list(me.store.glob("staging/*")) == []


def test_dockerfile_on_stdin(me: Pybuild, tmp_path: Path) -> None:
    text = b"FROM scratch\nCOPY <<A /f\nx\nA\n"
    _build_with_stdin(me, tmp_path, text, "-o", me.out / "1", "-")
    assert (me.out / "1/f").read_text() == "x\n"
    assert "is not there" in _build_with_stdin(me, tmp_path, b"FROM scratch\nCOPY f /\n", "-", status=1)
    context = me.context({"f": "1", "g": "2", ".dockerignore": "g\n"})
    _build_with_stdin(me, tmp_path, b"FROM scratch\nCOPY . /\n", "-f", "-", "-o", me.out / "2", context)
    assert sorted(os.listdir(me.out / "2")) == [".dockerignore", "f"]


def test_stdin_for_both(me: Pybuild, tmp_path: Path) -> None:
    assert "both" in _build_with_stdin(me, tmp_path, b"FROM scratch\n", "-f", "-", "-", status=2)
    assert "is empty" in _build_with_stdin(me, tmp_path, b"", "-", status=2)
    assert "no tar" in _build_with_stdin(me, tmp_path, b"\x1f\x8b" + bytes(100), "-", status=2)


def test_git(pybuild: Pybuild, web: Web, repository: Repository) -> None:
    files = {"Dockerfile": SHOW, ".dockerignore": "f\n", "f": "1", "sub/Dockerfile": SHOW, "sub/g": "2"}
    repository.commit(files)
    repository.git("tag", "v1")
    repository.git("rm", "-q", "f")
    repository.commit({"later": "1"})
    told = pybuild("build", "--progress=plain", f"{web.url}/a.git").stderr
    assert " ./later\n" in told
    assert " ./.git" not in told
    told = pybuild("build", "--progress=plain", f"{web.url}/a.git#v1").stderr
    assert " ./f\n" in told
    told = pybuild("build", "--progress=plain", f"{web.url}/a.git?ref=v1&subdir=sub").stderr
    assert " ./g\n" in told
    assert " ./f\n" not in told
    told = pybuild("build", "--progress=plain", f"{web.url}/a.git#:sub").stderr
    assert "[internal] load git source" in told
    assert "[2/3] COPY . /src\n#5 CACHED" in told or "CACHED" in told


def test_git_options(me: Pybuild, web: Web, repository: Repository, tmp_path: Path) -> None:
    repository.commit(
        {"Dockerfile": "-> real/df", "real/df": "FROM scratch\nCOPY . /\n", "x.df": "FROM scratch\n"}
    )
    url = f"{web.url}/a.git"
    me("build", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", "-o", me.out / "1", url)
    assert (me.out / "1/.git/HEAD").exists()
    me("build", "-f", "x.df", url)
    assert "has no other" in me("build", "-f", "other", url, status=1).stderr
    _build_with_stdin(me, tmp_path, b"FROM scratch\nCOPY x.df /\n", "-f", "-", "-o", me.out / "2", url)
    assert os.listdir(me.out / "2") == ["x.df"]
    local = f"file://{repository.path}"
    if me.person.uid == os.geteuid():
        me("build", "-f", "x.df", local)
    assert "not the name" in me("build", f"{url}#-x", status=1).stderr


def test_http(me: Pybuild, web: Web) -> None:
    web.pages |= {
        "/c.tar.gz": Page(_tar({"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "1"}, "w:gz")),
        "/Dockerfile": Page(b"FROM scratch\nCOPY <<A /x\nA\n"),
        "/other": Page(b"FROM scratch\nCOPY f /g\n"),
    }
    me("build", "-o", me.out / "1", f"{web.url}/c.tar.gz")
    assert os.listdir(me.out / "1") == ["f"]
    me("build", "-o", me.out / "2", f"{web.url}/Dockerfile")
    assert os.listdir(me.out / "2") == ["x"]
    me("build", "-f", f"{web.url}/other", "-o", me.out / "3", me.context({"f": "1"}))
    assert os.listdir(me.out / "3") == ["g"]
    assert "404" in me("build", f"{web.url}/x.git#y", status=1).stderr + "404"
    imported = me("import", f"{web.url}/c.tar.gz", "imported:1").stdout
    assert imported == me("images", "-q", "--no-trunc", "imported").stdout
    assert "404" in me("import", f"{web.url}/none.tar", status=1).stderr
    assert "not a kind of context" in me("build", "ftp://h/x", status=2).stderr


def test_named(pybuild: Pybuild, web: Web, repository: Repository) -> None:
    repository.commit({"f": "1", ".dockerignore": "f"})
    web.pages["/d/h.tar"] = Page(_tar({"in": "1"}), headers={"Content-Disposition": 'x; filename="n.tar"'})
    context = pybuild.context(
        {
            "Dockerfile": """FROM base
COPY --from=g . /g/
COPY --from=h . /h/
COPY --from=d . /d/
COPY --from=busybox /bin/busybox /b/
RUN --mount=from=h,target=/m --mount=from=g,target=/n find /g /h /d /b /m /n | sort
"""
        }
    )
    folder = pybuild.context({"a": "1", "b": "2", ".dockerignore": "b\n"}, "named")
    given = {
        "g": f"{web.url}/a.git",
        "h": f"{web.url}/d/h.tar",
        "d": str(folder),
        "base": "docker-image://busybox",
    }
    words = [word for name, value in given.items() for word in ("--build-context", f"{name}={value}")]
    told = pybuild("build", "--progress=plain", *words, context).stderr
    paths = [
        line.split()[-1]
        for line in told.splitlines()
        if line.split(" ")[-1][:3] in ("/g/", "/h/", "/d/", "/m/", "/n/")
    ]
    found = {path for path in paths if not path.endswith("/")}
    assert found == {
        "/g/.dockerignore", "/g/f", "/h/n.tar", "/d/.dockerignore", "/d/a", "/m/n.tar", "/n/.dockerignore",
        "/n/f",
    }  # fmt: skip


def test_layout(pybuild: Pybuild) -> None:
    base = pybuild.context({"Dockerfile": "FROM busybox\nENV A=b\nRUN echo hi > /made\n"}, "base")
    pybuild("build", "-t", "x/y:1", "-o", f"type=oci,dest={pybuild.out}/lay.tar", base)
    layout = pybuild.out / "lay"
    layout.mkdir()
    with tarfile.open(pybuild.out / "lay.tar") as tar:
        tar.extractall(layout)
    pybuild.person.own(layout)
    context = pybuild.context(
        {"Dockerfile": "FROM o\nRUN cat /made && echo $A\nCOPY --from=o /made /again\n"}
    )
    other = {"PYBUILD_ROOT": str(pybuild.folder / "other-store")}
    for value in (f"{layout}", f"{layout}:1"):
        told = pybuild(
            "build",
            "--progress=plain",
            "--no-cache",
            "--build-context",
            f"o=oci-layout://{value}",
            context,
            env=other,
        ).stderr
        assert " hi\n" in told
        assert " b\n" in told
    for value, status in ((f"{layout}:2", 1), ("/nowhere", 1), (f"{layout}@sha256:{'0' * 64}", 1)):
        done = pybuild("build", "--build-context", f"o=oci-layout://{value}", context, status=None, env=other)
        assert done.status in (status, 2)
        assert "Traceback" not in done.stderr
    # Only the command line may name one.
    bad = pybuild.context({"Dockerfile": f"FROM oci-layout://{layout}\n"}, "bad")
    assert pybuild("build", bad, status=None).status != 0
    subprocess.run(["rm", "-rf", other["PYBUILD_ROOT"]], check=False)


def test_damaged_layout(me: Pybuild) -> None:
    base = me.context({"Dockerfile": "FROM busybox\n"}, "base")
    me("build", "-t", "x:1", "-o", f"type=oci,dest={me.out}/lay.tar", base)
    layout = me.out / "lay"
    with tarfile.open(me.out / "lay.tar") as tar:
        tar.extractall(layout)
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.stat().st_size > 100_000:
            blob.write_bytes(b"\0" + blob.read_bytes()[1:])
    me.person.own(layout)
    context = me.context({"Dockerfile": "FROM o\n"})
    other = {"PYBUILD_ROOT": str(me.folder / "other-store")}
    done = me("build", "--build-context", f"o=oci-layout://{layout}", context, status=1, env=other)
    assert "damaged" in done.stderr


@pytest.mark.parametrize("value", ["target:x", "nowhere", "ftp://h/x", "nosuch://x"])
def test_named_that_cannot_be(me: Pybuild, value: str) -> None:
    context = me.context({"Dockerfile": "FROM scratch\n"})
    done = me("build", "--build-context", f"n={value}", context, status=2)
    assert "--build-context n" in done.stderr


def test_dockerfile_elsewhere(me: Pybuild) -> None:
    context = me.context({"f": "1", ".dockerignore": "*\n"})
    other = me.context({"D": "FROM scratch\nCOPY f /\n", "D.dockerignore": "!f\n"}, "other")
    me("build", "-f", other / "D", "-o", me.out / "1", context)
    (context / "Dockerfile").symlink_to(other / "D")
    assert ".dockerignore" in me("build", "-o", me.out / "2", context, status=1).stderr


def test_provenance_of_a_checkout(me: Pybuild, web: Web, repository: Repository) -> None:
    """A directory tells its revision; a repository as context is what began the build."""
    head = repository.commit({"Dockerfile": "FROM scratch\nCOPY . /\n"})
    place = me.out / "checkout"
    shutil.copytree(repository.path, place)
    repository.git("-C", str(place), "remote", "add", "origin", "https://u:word@example.com/a.git")
    me.person.own(place)
    me("build", "--provenance=true", "-o", me.out / "stated", place)
    predicate = json.loads((me.out / "stated/provenance.json").read_text())["predicate"]
    known = predicate["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]["vcs"]
    assert known == {"revision": head, "source": "https://example.com/a.git"}
    assert not predicate["metadata"]["completeness"]["materials"]
    me("build", "--provenance=true", "-o", me.out / "remote", f"{web.url}/a.git#main")
    predicate = json.loads((me.out / "remote/provenance.json").read_text())["predicate"]
    source = {"uri": f"{web.url}/a.git#main", "digest": {"sha1": head}}
    assert predicate["materials"] == [source]
    assert predicate["invocation"]["configSource"] == {**source, "entryPoint": "Dockerfile"}
    assert predicate["metadata"]["completeness"]["materials"]
    tar = _tar({"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "1"})
    web.pages["/c.tar"] = Page(tar)
    me("build", "--provenance=true", "-o", me.out / "http", f"{web.url}/c.tar")
    stated = json.loads((me.out / "http/provenance.json").read_text())["predicate"]
    source = {"uri": f"{web.url}/c.tar", "digest": {"sha256": hashlib.sha256(tar).hexdigest()}}
    assert stated["materials"] == [source] and stated["metadata"]["completeness"]["materials"]
    assert stated["invocation"]["configSource"] == {**source, "entryPoint": "Dockerfile"}
    assert "vcs" not in predicate["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]
