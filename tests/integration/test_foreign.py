"""RUN for another architecture, by an emulator of qemu-user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.linux import emulation
from tests.support import trees
from tests.support.people import available
from tests.support.program import REPOSITORY
from tests.support.registry import Registry
from tests.support.runner import Pybuild

pytestmark = pytest.mark.needs("qemu-s390x-static")
ARCH = "amd64" if os.uname().machine == "aarch64" else "arm64"
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}[ARCH]
DOCKERFILE = """\
FROM foreign
ARG TARGETPLATFORM
RUN echo $TARGETPLATFORM on $(uname -m) > /told && chown 7:8 /told && chmod 4711 /told
RUN ["/bin/busybox", "sh", "-c", "cat /told; id -u; ls /proc | grep -c ^1$; exit 3"]
"""


@pytest.fixture(scope="module")
def foreign(bases: Registry) -> Registry:
    """The registry, holding a busybox of another architecture."""
    script = REPOSITORY / "scripts" / "base-images.sh"
    done = subprocess.run([script, "foreign"], check=True, stdout=subprocess.PIPE, text=True)
    bases.push_base(Path(done.stdout.strip()) / "foreign", "library/foreign:latest")
    return bases


@pytest.fixture
def registration(tmp_path: Path) -> Iterator[None]:
    """The emulator in the kernel's own table (where packages put it); root's builds need it."""
    machine = emulation.Machine(MACHINE, 64, "little", 62 if MACHINE == "x86_64" else 183)
    if "root" not in available():
        yield
        return
    subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", tmp_path], check=True)
    entry = tmp_path / f"qemu-{MACHINE}"
    mine = not entry.exists()
    try:
        if mine:
            (tmp_path / "register").write_text(
                emulation.registration(machine, emulation.interpreter(machine))
            )
        yield
    finally:
        if mine and entry.exists():
            entry.write_text("-1")
        subprocess.run(["umount", tmp_path], check=True)


def test_run(pybuild: Pybuild, foreign: Registry, registration: None) -> None:
    context = pybuild.context({"Dockerfile": DOCKERFILE})
    told = pybuild("build", "--progress=plain", "--platform", f"linux/{ARCH}", context, status=1).stderr
    for line in (f"linux/{ARCH} on {MACHINE}", "0", "1"):
        assert f" {line}\n" in told, told
    assert "exit code: 3" in told
    archive = pybuild.out / "image.tar"
    context = pybuild.context({"Dockerfile": DOCKERFILE.rpartition("RUN")[0]})
    pybuild("build", "--platform", f"linux/{ARCH}", "-o", f"type=oci,dest={archive}", context)
    image = trees.read_archive(archive)
    entry = image.tree["/told"]
    assert (entry.uid, entry.gid, entry.mode) == (7, 8, 0o4711)
    assert image.config["architecture"] == ARCH


@pytest.mark.parametrize("kind", [k for k in available() if k != "root"])
def test_without_any_registration(kind: str, foreign: Registry, request: pytest.FixtureRequest) -> None:
    """An ordinary user's build registers what is installed in its own user namespace, and nowhere else."""
    pybuild: Pybuild = request.getfixturevalue(kind)
    context = pybuild.context({"Dockerfile": "FROM foreign\nRUN uname -m\n"})
    entry = Path(emulation.REGISTERED) / f"qemu-{MACHINE}"
    before = entry.exists()
    told = pybuild("build", "--progress=plain", "--platform", f"linux/{ARCH}", context).stderr
    assert f" {MACHINE}\n" in told
    assert entry.exists() == before


def test_an_architecture_that_nothing_emulates(me: Pybuild, foreign: Registry) -> None:
    context = me.context(
        {
            "Dockerfile": f"FROM --platform=linux/{ARCH} foreign AS tools\n"
            'FROM --platform=linux/sparc64 scratch\nCOPY --from=tools /bin/busybox /\nRUN ["/busybox"]\n'
        }
    )
    told = me("build", "--progress=quiet", context, status=1).stderr
    assert "exit code: 126" in told and "sudo apt install qemu-user-static" in told


@pytest.mark.parametrize("kind", [k for k in available() if k != "root"])
def test_containers(kind: str, foreign: Registry, request: pytest.FixtureRequest) -> None:
    pybuild: Pybuild = request.getfixturevalue(kind)
    told = pybuild("run", "--rm", "--platform", f"linux/{ARCH}", "foreign", "sh", "-c", "uname -m; id -u")
    assert told.stdout.split() == [MACHINE, "0"]
