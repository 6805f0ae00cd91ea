"""``pybuild history report``: one page, opened from disk in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.browser import Page, open_page
from tests.support.runner import Pybuild

pytestmark = pytest.mark.needs("chromium")

DOCKERFILE = """\
FROM busybox AS one
ARG MODE=slow
ARG API_TOKEN
COPY src /src
RUN echo "making $MODE"; sleep 0.1; cat /src/* > /one
FROM busybox AS two
RUN sleep 0.1; echo two > /two
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
"""
EVIL = "<script>document.title='owned'</script>"
IMAGE = "<img src=x onerror=document.title=1>"
HOSTILE = f"""\
FROM busybox
ARG NAME
COPY . /all/
RUN echo "{EVIL}{IMAGE}\\"'>" && echo '</pre></details>{EVIL}'
RUN printf '\\033]0;t\\a\\033[31mred\\033[0m\\0\\n'
RUN echo "]]><svg onload=document.title=1>" && false
"""


def report(pybuild: Pybuild, tmp_path: Path, *build: str, fragment: str = "") -> Page:
    path = pybuild.out / "report.html"
    pybuild("history", "report", "-o", path, *build)
    page = open_page(path, tmp_path, fragment)
    assert page.console == []
    assert page.elements[0].attributes["data-ready"] == "yes"  # its script came to its end
    # Nothing from elsewhere, and nothing but the one script.
    places = [e.attributes[n] for e in page.elements for n in ("src", "href") if n in e.attributes]
    assert all(place.startswith("#step-") for place in places)
    assert len(page.all("script")) == 1
    handlers = [n for e in page.elements for n in e.attributes if n.startswith("on")]
    assert handlers == []
    return page


def test_a_build(pybuild: Pybuild, tmp_path: Path) -> None:
    here = pybuild.context({"Dockerfile": DOCKERFILE, "src/a": "a\n"})
    secret = ("--build-arg", "API_TOKEN=s3cret")
    pybuild("build", "-t", "app", *secret, here)
    (here / "src/a").write_text("changed\n")
    pybuild("build", "-t", "app", "--build-arg", "MODE=fast", *secret, here)
    page = report(pybuild, tmp_path)
    states = [a["data-state"] for a in page.all("details", "step")]
    assert {"ran", "cached"} == set(states)
    assert len(page.all("rect", "box")) == 6  # the graph: base, and five steps
    assert len(page.all("path", "edge")) == 7
    assert [a for a in page.all("rect", "bar") if "ran" in a["class"].split()]
    assert len([a for a in page.all("rect", "box") if "cached" in a["class"].split()]) == 2
    assert page.text.count("ARG MODE changed") == 2, "beside the step's name, and with it open"
    for said in (
        "app",
        "completed",
        str(here),
        "MODE=fast",
        "API_TOKEN=(hidden)",
        "a file changed in the build context",
        "src/a: 2 -> 8 bytes",
        "an earlier step ran again: [one 2/3] COPY src /src",
        "ARG MODE changed",
        "- slow",
        "making fast",
    ):
        assert said in page.text, said
    assert "s3cret" not in (pybuild.out / "report.html").read_text()


def test_a_hostile_build(pybuild: Pybuild, tmp_path: Path) -> None:
    here = pybuild.context({"Dockerfile": HOSTILE, f"{IMAGE.replace('/', '')}": "x", "b": "1"})
    pybuild("build", "--build-arg", f"NAME={EVIL}", here, status=1)
    (here / IMAGE).write_text("changed")
    pybuild("build", "--build-arg", f"NAME=\"'{IMAGE}", here, status=1)
    page = report(pybuild, tmp_path)
    (build,) = pybuild("history", "ls", "-q").stdout.split()[:1]
    title = (pybuild.out / "report.html").read_text().partition("<title>")[2].partition("</title>")[0]
    assert title == f"context - build {build}"
    assert f"context - build {build}" in page.text  # as the browser has it
    assert page.all("img") == []
    assert all("width" in svg for svg in page.all("svg"))
    assert EVIL in page.text and IMAGE in page.text and "</pre></details>" in page.text
    assert f"NAME=\"'{IMAGE}" in page.text
    assert "\x1b" not in page.text and "red" in page.text
    failed = [a for a in page.all("details", "step") if a["data-state"] == "failed"]
    assert len(failed) == 1 and "open" in failed[0]


def test_links_lead_to_steps(me: Pybuild, tmp_path: Path) -> None:
    me("build", me.context({"Dockerfile": DOCKERFILE, "src/a": "a\n"}))
    page = report(me, tmp_path, "^0", fragment="#step-5")
    assert [a["id"] for a in page.all("details", "step") if "open" in a] == ["step-5"]
    ids = {"#" + a["id"] for a in page.all("details", "step")}
    assert {a["href"] for a in page.all("a")} <= ids


def test_a_long_log_is_cut_in_the_page_alone(me: Pybuild, tmp_path: Path) -> None:
    me("build", me.context({"Dockerfile": "FROM busybox\nRUN echo first; seq 1 800000; echo last\n"}))
    page = report(me, tmp_path)
    assert "first" in page.text and "last" in page.text and "bytes are left out here" in page.text
    assert (me.out / "report.html").stat().st_size < 4 << 20
    assert "\n400000\n" in me("history", "logs", "^0", "RUN echo first").stdout


def test_where_it_goes(me: Pybuild, tmp_path: Path) -> None:
    me("build", me.context({"Dockerfile": "FROM busybox\n"}))
    name = me("history", "report", cwd=me.out).stdout.strip()
    assert (me.out / name).read_text().startswith("<!DOCTYPE html>")
    assert me("history", "report", "-o", "-").stdout == (me.out / name).read_text()
    assert "can't write" in me("history", "report", "-o", "/nowhere/at/all", status=2).stderr
