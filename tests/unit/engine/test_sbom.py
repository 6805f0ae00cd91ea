"""Packages that are found, and those that can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_py.engine.sbom import sbom
from buildkit_py.errors import UsageError
from buildkit_py.snapshot.dirtree import DirTree

STATUS = """\
Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2
Description: a shell
 Package: no field, as it is indented

Package: gone
Status: deinstall ok config-files
Version: 1
"""
FILES = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
    "var/lib/dpkg/status": STATUS,
    "var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 1:12\n",
    "lib/apk/db/installed": "C:Q1x\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\n\nP:zlib\nV:1.3\n",
    "usr/lib/site-packages/Foo_Bar-1.0.dist-info/METADATA": "Name: Foo_Bar\nVersion: 1.0\n\nName: x\n",
    "srv/node_modules/@a/b/package.json": '{"name": "@a/b", "version": "2.0.0", "license": "MIT"}',
    "srv/node_modules/c/package.json": "not JSON",
    "srv/package.json": '{"name": "mine", "version": "1"}',
}


def fill(root: Path, files: dict[str, str]) -> DirTree:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return DirTree(str(root))


def test_what_is_found(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("/nowhere")
    predicate = sbom(fill(tmp_path, FILES), ["app:1"], 1.0)
    document = predicate.document
    assert (document["spdxVersion"], document["name"]) == ("SPDX-2.3", "app:1")
    assert document["creationInfo"]["created"] == "1970-01-01T00:00:01Z"
    purls = {p["externalRefs"][0]["referenceLocator"] for p in document["packages"]}
    assert purls == {
        "pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12",
        "pkg:deb/debian/base-files@1%3A12?distro=debian-12",
        "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12",
        "pkg:apk/debian/zlib@1.3?distro=debian-12",
        "pkg:pypi/foo-bar@1.0",
        "pkg:npm/%40a/b@2.0.0",
    }
    ids = [p["SPDXID"] for p in document["packages"]]
    assert len(set(ids)) == len(ids)
    assert [r["relatedSpdxElement"] for r in document["relationships"]] == ids
    assert sbom(DirTree(str(tmp_path)), ["app:1"], 1.0) == predicate


def test_no_packages(tmp_path: Path) -> None:
    assert sbom(DirTree(str(tmp_path)), [], 0).document["packages"] == []


def test_a_database_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rpm"):
        sbom(fill(tmp_path, {"var/lib/rpm/rpmdb.sqlite": ""}), [], 0)
