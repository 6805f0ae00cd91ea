"""The rows of the key table about things that lie elsewhere: base images, URLs, git repositories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cache.steps import HIT, MISS, verdict, verdicts
from tests.support.registry import Registry
from tests.support.runner import Pybuild
from tests.support.web import Page, Repository, Web


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "repositories").mkdir()
    with Web(tmp_path / "repositories") as web:
        yield web


def build(pybuild: Pybuild, dockerfile: str, *options: str) -> str:
    place = pybuild.context({"f": "one\n"})
    (pybuild.folder / "Dockerfile").write_text(dockerfile)
    look = ("build", "--progress=rawjson", "-o", "type=cacheonly", "-f", pybuild.folder / "Dockerfile")
    return pybuild(*look, *options, place).stderr


def push(pybuild: Pybuild, name: str, text: str) -> str:
    """Push an image that holds a text and nothing else; return its manifest's digest."""
    place = pybuild.context({"Dockerfile": f"FROM busybox\nRUN echo {text} > /text\n"}, "base")
    metadata = pybuild.out / "metadata.json"
    pybuild("build", "-t", name, "-t", f"{name}-too", "--push", "--metadata-file", metadata, place)
    pybuild("rmi", name, f"{name}-too")
    return metadata.read_text().split('"containerimage.digest": "')[1].split('"')[0]


def test_a_base_image_counts_by_its_digest(me: Pybuild, bases: Registry) -> None:
    name = f"{bases.address}/tests/base-of-table"
    first = push(me, f"{name}:1", "one")
    text = "FROM %s\nRUN cat /text\n"
    build(me, text % f"{name}:1")
    assert verdict(build(me, text % f"{name}:1", "--pull"), "RUN") == HIT
    assert verdict(build(me, text % f"{name}:1-too"), "RUN") == HIT, "the same image by another tag"
    assert verdict(build(me, text % f"{name}@{first}"), "RUN") == HIT, "and by its digest"
    push(me, f"{name}:1", "two")
    assert verdict(build(me, text % f"{name}:1"), "RUN") == MISS, "the tag has moved"
    assert verdict(build(me, text % f"{name}@{first}"), "RUN") == HIT


def test_a_copy_out_of_an_image_depends_on_the_files_alone(me: Pybuild, bases: Registry) -> None:
    name = f"{bases.address}/tests/source-of-table"
    push(me, f"{name}:1", "one")
    text = f"FROM busybox\nCOPY --from={name}:1 %s /x/\n"
    build(me, text % "/text")
    build(me, text % "/etc")
    push(me, f"{name}:1", "two")
    assert verdict(build(me, text % "/etc", "--pull"), "COPY") == HIT
    assert verdict(build(me, text % "/text", "--pull"), "COPY") == MISS


def test_a_url_counts_by_its_content(me: Pybuild, web: Web) -> None:
    def page(data: bytes, tag: str) -> None:
        web.pages["/u"] = Page(data, headers={"ETag": tag})

    text = f"FROM busybox\nADD {web.url}/u /x/\nRUN cat /x/u\n"
    page(b"one", '"1"')
    build(me, text)
    assert verdict(build(me, text), "RUN") == HIT
    assert web.answers[-1] == 304
    page(b"one", '"2"')
    assert verdict(build(me, text), "ADD") == HIT, "another ETag, the same content"
    page(b"two", '"3"')
    told = verdicts(build(me, text))
    assert (told[f"ADD {web.url}/u /x/"], told["RUN cat /x/u"]) == (MISS, MISS)


def test_a_file_beside_a_url_counts_too(me: Pybuild, web: Web) -> None:
    web.pages["/u"] = Page(b"one")
    text = f"FROM busybox\nADD {web.url}/u f /x/\n"
    build(me, text)
    assert verdict(build(me, text), "ADD") == HIT
    place = me.context({"f": "another\n"})
    done = me("build", "--progress=rawjson", "-f", me.folder / "Dockerfile", "-t", "x", place)
    assert verdict(done.stderr, "ADD") == MISS
    assert me("run", "--rm", "x", "cat", "/x/f").stdout == "another\n"


def test_a_checksum_spares_the_question(me: Pybuild, web: Web) -> None:
    web.pages["/u"] = Page(b"one")
    digest = "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    text = f"FROM busybox\nADD --checksum={digest} {web.url}/u /x/\n"
    build(me, text)
    asked = len(web.requests)
    assert verdict(build(me, text), "ADD") == HIT
    assert len(web.requests) == asked


@pytest.mark.needs("git")
def test_a_repository_counts_by_its_commit(me: Pybuild, web: Web) -> None:
    assert web.repositories is not None
    repository = Repository(web.repositories / "a.git")
    repository.commit({"d/f": "one", "g": "one"})
    whole, part = f"ADD {web.url}/a.git /x", f"ADD {web.url}/a.git#main:d /y"
    text = f"FROM busybox\n{whole}\nFROM busybox\nCOPY --from=0 /x/d /d\n{part}\n"
    build(me, text)
    repository.git("branch", "other")
    again = build(me, text.replace(".git /x", ".git#other /x"))
    assert verdict(again, f"ADD {web.url}/a.git#other /x") == HIT, "the same commit"
    repository.commit({"g": "two"})
    told = verdicts(build(me, text))
    assert told[whole] == MISS
    assert told["COPY --from=0 /x/d /d"] == HIT, "what is copied out of it is the same"
    assert told[part] == HIT, "so is the subdirectory"
