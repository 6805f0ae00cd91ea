"""Digests into a Dockerfile and out of it."""

from __future__ import annotations

import hashlib
import json

from tests.support.registry import Registry
from tests.support.runner import Pybuild


def digest(bases: Registry, name: str) -> str:
    return "sha256:" + hashlib.sha256(bases.get(f"/v2/library/{name}/manifests/latest")).hexdigest()


def test_pin_and_unpin(pybuild: Pybuild, bases: Registry) -> None:
    text = (
        "ARG BASE=busybox:latest\n\nFROM  $BASE   AS a\n# a comment\nFROM \\\n   busybox:latest\n"
        "COPY --from=busybox:latest \\\n    /bin/busybox /b\nRUN --mount=from=a,target=/a true\n"
    )
    place = pybuild.context({"Dockerfile": text})
    busybox = digest(bases, "busybox")
    assert pybuild("pin", "--check", place, status=1).stdout.count(busybox) == 3
    assert (place / "Dockerfile").read_text() == text
    (place / "Dockerfile").chmod(0o640)
    pybuild("pin", place)
    pinned = (place / "Dockerfile").read_text()
    assert pinned == text.replace("busybox:latest", f"busybox:latest@{busybox}")
    assert (place / "Dockerfile").stat().st_mode & 0o777 == 0o640
    pybuild("pin", "--check", place)
    pybuild("pin", "--check", place / "Dockerfile")
    pybuild("build", "-t", "x", place)
    done = json.loads(pybuild("pin", "--unpin", "--format=json", "-f", place / "Dockerfile").stdout)
    assert [change["line"] for change in done["changes"]] == [1, 6, 7]
    assert (place / "Dockerfile").read_text() == text


def test_a_tag_that_is_left_out_is_written(me: Pybuild, bases: Registry) -> None:
    place = me.context({"Dockerfile": "FROM busybox\nFROM scratch\nFROM busybox@sha256:" + "0" * 64 + "\n"})
    told = me("pin", place).stdout
    assert "Dockerfile:3" in told and "stays" in told
    lines = (place / "Dockerfile").read_text().splitlines()
    assert lines[0] == f"FROM busybox:latest@{digest(bases, 'busybox')}" and lines[2].endswith("0" * 64)


def test_what_cannot_be_pinned(me: Pybuild, bases: Registry) -> None:
    place = me.context({"Dockerfile": "ARG V=1\nFROM busybox:$V\n"})
    assert "busybox:$V holds a variable" in me("pin", place).stderr
    place = me.context({"Dockerfile": f"FROM {bases.address}/no/such:1\n"})
    assert "no/such:1" in me("pin", place, status=1).stderr
    assert "hint" in me("pin", "https://example.com/x.git", status=2).stderr
    assert "Dockerfile" in me("pin", me.context({"f": ""}), status=1).stderr
