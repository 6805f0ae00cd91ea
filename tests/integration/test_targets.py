"""Stages that a build made on its way, as images of their own."""

from __future__ import annotations

from tests.support import trees
from tests.support.runner import Pybuild

DOCKERFILE = """\
FROM busybox AS one
COPY a /a
RUN echo b > /b && chown 7:8 /b
FROM scratch
COPY --from=one /a /b /
"""


def test_a_stage_that_another_build_made(pybuild: Pybuild) -> None:
    """Nothing runs for it any more, and its layers are the same as if it had been built by itself."""
    place = pybuild.context({"Dockerfile": DOCKERFILE, "a": "A"})
    pybuild("build", "-q", place)
    archive = pybuild.out / "one.tar"
    said = pybuild("build", "--progress=plain", "-o", f"type=oci,dest={archive}", "--target", "one", place)
    assert said.stderr.count("CACHED") == 3
    image = trees.read_archive(archive)
    owners = {path: (image.tree[path].uid, image.tree[path].gid) for path in ("/a", "/b")}
    assert owners == {"/a": (0, 0), "/b": (7, 8)}
    # The same of one that goes to the store, and from there.
    pybuild("build", "-q", "-t", "one:1", "--target", "one", place)
    assert pybuild("run", "--rm", "one:1", "cat", "/a", "/b").stdout == "Ab\n"
    pybuild("save", "-o", pybuild.out / "saved.tar", "one:1")
    assert trees.read_archive(pybuild.out / "saved.tar").tree["/b"].uid == 7
