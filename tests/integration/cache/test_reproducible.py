"""The same input, built as each kind of user in a store of its own, is the same image to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.people import available
from tests.support.registry import Registry
from tests.support.runner import Pybuild

EPOCH = 1_600_000_000
ZONES = ("UTC", "Pacific/Auckland")
# What is special about owners, modes, links and times, as far as every kind of user can make it.
FULL = """\
FROM busybox AS build
ARG MODE=fast
COPY --chown=7:8 . /src/
RUN mkdir -p /out/d && echo $MODE > /out/mode && ln /out/mode /out/d/hard && ln -s ../mode /out/d/soft
RUN chown -R 1000:1001 /out && chmod 4755 /out/mode && chmod 1777 /out/d && mkfifo /out/pipe
FROM busybox
LABEL a=b
WORKDIR /desk
COPY --from=build /out /out/
COPY --link --chmod=640 f /linked/
COPY <<EOF /etc/here
text
EOF
RUN rm -r /out/d && touch /desk/new && mkdir /out/d && echo $RANDOM > /dev/null
USER 5
"""
PLAIN = """\
FROM busybox
WORKDIR /a/b
COPY f d1/f1 /x/
COPY --link --chown=3:4 d0/ /y/
ADD --chmod=711 f /z
"""
FILES: dict[str, str | bytes] = {"f": "f\n", **{f"d{n % 3}/f{n}": f"{n}\n" for n in range(30)}}


@pytest.fixture
def people(people_at_work: Callable[..., Pybuild], bases: Registry) -> list[Pybuild]:
    """Each kind of user twice: the order of a directory, say, may differ by chance."""
    return [people_at_work(kind, bases.settings) for kind in available() for _ in range(2)]


def built(pybuild: Pybuild, dockerfile: str, *output: str, zone: str) -> tuple[str, bytes]:
    """The manifest's digest, and the archive."""
    context = pybuild.context({"Dockerfile": dockerfile, **FILES})
    metadata, archive = pybuild.out / "metadata.json", pybuild.out / "image.tar"
    words = ",".join([f"dest={archive}", *output])
    env: dict[str, str] = {"TZ": zone}
    if "rewrite-timestamp=true" in output:
        env["SOURCE_DATE_EPOCH"] = str(EPOCH)
    pybuild("build", "-o", words, "--metadata-file", metadata, context, env=env)
    digest: str = json.loads(metadata.read_text())["containerimage.digest"]
    return digest, Path(archive).read_bytes()


def test_with_an_epoch_everything_is_the_same(people: list[Pybuild]) -> None:
    output = ("type=oci", "rewrite-timestamp=true")
    found = {built(p, FULL, *output, zone=ZONES[n % 2]) for n, p in enumerate(people)}
    assert len(found) == 1, {digest for digest, _ in found}


def test_without_run_no_epoch_is_needed(people: list[Pybuild]) -> None:
    found = {built(p, PLAIN, "type=oci", zone=ZONES[n % 2]) for n, p in enumerate(people)}
    assert len(found) == 1, {digest for digest, _ in found}


def test_a_store_in_the_context_is_no_part_of_it(pybuild: Pybuild) -> None:
    """Each build changes it: nothing that takes the context would ever be cached."""
    place = pybuild.context(
        {"Dockerfile": "FROM busybox\nCOPY . /c\nRUN --mount=target=/m ls -A /m /c > /list\n", "a": "A"}
    )
    env = {"PYBUILD_ROOT": str(place / ".store[1]")}
    pybuild("build", "-q", "-o", pybuild.out / "files", place, env=env)
    assert (pybuild.out / "files/list").read_text().split() == [
        "/c:",
        "Dockerfile",
        "a",
        "/m:",
        "Dockerfile",
        "a",
    ]
    again = pybuild("build", "--progress=plain", place, env=env)
    assert again.stderr.count("CACHED") == 3
