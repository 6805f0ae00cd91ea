"""Files, git repositories and contexts by HTTPS, from a server whose certificate the machine may not know."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runner import Pybuild
from tests.support.web import Page, Repository, Web, certify

pytestmark = [pytest.mark.needs("git"), pytest.mark.needs("openssl")]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with Web(tmp_path / "repositories", certificate=certify(tmp_path / "server.pem")) as web:
        yield web


@pytest.fixture
def trust(tmp_path: Path, web: Web, pybuild: Pybuild) -> dict[str, str]:
    """The variable by which the program, and git, know the server."""
    place = pybuild.folder / "ca.pem"
    text = (tmp_path / "server.pem").read_text()
    place.write_text(text[: text.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n")
    pybuild.person.own(place)
    return {"SSL_CERT_FILE": str(place)}


def test_https(pybuild: Pybuild, web: Web, trust: dict[str, str], tmp_path: Path) -> None:
    Repository(tmp_path / "repositories/a.git").commit({"f": "1", "Dockerfile": "FROM scratch\nCOPY f /\n"})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo("Dockerfile")
        text = b"FROM scratch\nCOPY Dockerfile /d\n"
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    web.pages |= {"/x": Page(b"hello"), "/c.tgz": Page(packed.getvalue())}
    text = f"FROM scratch\nADD {web.url}/x /\nADD {web.url}/a.git /g\n".encode()
    context = pybuild.context({"Dockerfile": text})
    told = pybuild("build", context, status=1).stderr
    assert "Dockerfile:2" in told and "cannot be trusted" in told and "SSL_CERT_FILE" in told
    pybuild("build", "-o", pybuild.out / "1", context, env=trust)
    assert (pybuild.out / "1/x").read_text() == "hello" and (pybuild.out / "1/g/f").read_text() == "1"
    for number, place in ((2, f"{web.url}/c.tgz"), (3, f"{web.url}/a.git")):
        pybuild("build", "-o", pybuild.out / str(number), place, env=trust)
    assert os.listdir(pybuild.out / "2") == ["d"] and os.listdir(pybuild.out / "3") == ["f"]
    plain = pybuild.context({"Dockerfile": f"FROM scratch\nADD http{web.url[5:]}/x /\n"})
    assert "Dockerfile:2" in pybuild("build", plain, status=1, env=trust).stderr
