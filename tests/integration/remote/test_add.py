"""ADD of URLs and git repositories, as each kind of user."""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256

import pytest

from tests.support.runner import Pybuild
from tests.support.web import Page, Repository, Web

pytestmark = pytest.mark.needs("git")
DATED = {"Last-Modified": "Thu, 02 Jan 2020 03:04:05 GMT", "ETag": '"1"'}


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid, info.mode = len(data), 3, 4, 0o640
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _sum(data: bytes) -> str:
    return "sha256:" + sha256(data).hexdigest()


def test_add(pybuild: Pybuild, web: Web, repository: Repository) -> None:
    archive = _tar({"in": b"1"})
    web.pages |= {
        "/f.txt": Page(b"hello", headers=DATED),
        "/d/g%20h": Page(b"two"),
        "/a.tgz": Page(archive, headers=DATED),
    }
    repository.commit({"f": "1", "d/g": "2", "l": "-> d/g"})
    repository.git("tag", "v1")
    repository.commit({"later": "3"})
    context = pybuild.context(
        {
            "Dockerfile": f"""FROM busybox
ADD {web.url}/f.txt {web.url}/d/g%20h /u/
ADD --chmod=644 --chown=7:8 {web.url}/f.txt /u/named
ADD --checksum={_sum(b"hello")} {web.url}/f.txt /u/sum
ADD {web.url}/a.tgz /u/
ADD --unpack {web.url}/a.tgz /u/unpacked
ADD {web.url}/a.git#v1 /g
ADD --keep-git-dir {web.url}/a.git?branch=main /k
ADD --chown=9:9 {web.url}/a.git#main:d /s
RUN cd /u && stat -c '%n %a %s %Y' f.txt named sum a.tgz 'g h' unpacked/in
RUN ls -a /g /k /s
"""
        }
    )
    first = pybuild("build", "--progress=plain", "--iidfile", pybuild.out / "1", context)
    for line in (
        "f.txt 600 5 1577934245",
        "named 644 5 1577934245",
        "sum 600 5 1577934245",
        f"a.tgz 600 {len(archive)} 1577934245",
        "g h 600 3 0",
        "unpacked/in 640 1 0",
    ):
        assert f" {line}\n" in first.stderr, first.stderr
    assert first.stderr.count(" .git\n") == 1
    assert first.stderr.count(" later\n") == 1
    asked = len(web.requests)
    again = pybuild("build", "--progress=plain", "--iidfile", pybuild.out / "2", context)
    assert (pybuild.out / "1").read_text() == (pybuild.out / "2").read_text()
    assert "DONE" not in "\n".join(line for line in again.stderr.splitlines() if "ADD" in line)
    # Nothing is asked for what has a checksum, and nothing read twice.
    assert len(web.requests) - asked == 3 + 3 * 2
    assert web.answers[asked:].count(304) == 2
    pybuild("build", "-o", f"type=tar,dest={pybuild.out}/all.tar", context)
    with tarfile.open(pybuild.out / "all.tar") as tar:
        owners = {
            name: (tar.getmember(name).uid, tar.getmember(name).gid)
            for name in ("u/f.txt", "u/named", "u/unpacked/in", "g/f", "s/g")
        }
    assert owners == {
        "u/f.txt": (0, 0),
        "u/named": (7, 8),
        "u/unpacked/in": (3, 4),
        "g/f": (0, 0),
        "s/g": (9, 9),
    }
    pybuild.check_store()


def test_what_changed_is_fetched(me: Pybuild, web: Web) -> None:
    context = me.context({"Dockerfile": f"FROM scratch\nADD {web.url}/f /\n"})
    for n in range(2):
        web.pages["/f"] = Page(b"%d" % n, headers={"ETag": f'"{n}"'})
        me("build", "-o", me.out / str(n), context)
        assert (me.out / str(n) / "f").read_text() == str(n)


def test_blob_that_was_pruned(me: Pybuild, web: Web) -> None:
    web.pages["/f"] = Page(b"data", headers=DATED)
    context = me.context({"Dockerfile": f"FROM scratch\nADD {web.url}/f /\n"})
    me("build", "-o", me.out / "1", context)
    me("prune", "-af")
    me("build", "-o", me.out / "2", context)
    assert (me.out / "2/f").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ADD {url}/loop /x", "more than 10 redirects"),
        ("ADD {url}/none /x", "404"),
        ("ADD {url}/out /x", "no http or https URL"),
        ("ADD --checksum=sha256:" + "0" * 64 + " {url}/f /x", "not sha256:000"),
        ("ADD {url}/a.git#nothing /x", "has no branch or tag 'nothing'"),
        ("ADD {url}/a.git#main:out /x", "has no directory out"),
        ("ADD {url}/a.git#main:../.. /x", "outside of the repository"),
        ("ADD {url}/a.git?checksum=00000000 /x", "not 00000000"),
        ("ADD {url}/b.git /x", "b.git"),
        ("ADD git://127.0.0.1:1/b.git /x", "refused"),
        ("ADD http://127.0.0.1:1/f /x", "refused"),
    ],
)
def test_refused(me: Pybuild, web: Web, repository: Repository, line: str, message: str) -> None:
    web.pages |= {
        "/loop": Page(status=302, headers={"Location": "/loop"}),
        "/none": Page(b"", 404),
        "/out": Page(status=302, headers={"Location": "file:///etc/passwd"}),
        "/f": Page(b"x"),
        "/b.git/info/refs?service=git-upload-pack": Page(b"", 404),
    }
    repository.commit({"f": "1", "out": "-> ../../../../etc"})
    context = me.context({"Dockerfile": f"FROM scratch\n{line.format(url=web.url)}\n"})
    done = me("build", context, status=1)
    assert message in done.stderr
    assert "Dockerfile:2" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(me.store.glob("staging/*")) == []


def test_nothing_is_left_of_a_checkout_that_was_not_needed(
    me: Pybuild, web: Web, repository: Repository
) -> None:
    repository.commit({"f": "1"})
    text = f"FROM busybox\nRUN false\nADD {web.url}/a.git /x\nADD {web.url}/a.git?keep-git-dir=1 /y\n"
    me("build", me.context({"Dockerfile": text}), status=1)
    assert list(me.store.glob("staging/*")) == []


def test_archive_that_climbs(me: Pybuild, web: Web) -> None:
    web.pages["/a"] = Page(_tar({"../../up": b"1"}))
    context = me.context({"Dockerfile": f"FROM scratch\nADD --unpack {web.url}/a /d/\n"})
    assert "would leave the destination" in me("build", context, status=1).stderr


def test_secret_token(me: Pybuild, web: Web, repository: Repository) -> None:
    repository.commit({"f": "1"})
    web.token = "hush-hush"
    context = me.context({"Dockerfile": f"FROM scratch\nADD {web.url}/a.git /\n"})
    done = me("build", context, status=1)
    assert "GIT_AUTH_TOKEN" in done.stderr
    secret = "id=GIT_AUTH_TOKEN.127.0.0.1,env=TOKEN"
    done = me("build", "--secret", secret, "-o", me.out / "o", context, env={"TOKEN": web.token})
    assert (me.out / "o/f").exists()
    assert "hush" not in done.text
    found = [p for p in me.store.rglob("*") if p.is_file() and b"hush-hush" in p.read_bytes()]
    assert found == []


def test_a_token_stays_with_its_server(me: Pybuild, web: Web, repository: Repository) -> None:
    """git follows a redirect to anywhere, and sends the header along."""
    repository.commit({"f": "1"})
    web.token = "hush-hush"
    first = "info/refs?service=git-upload-pack"
    web.pages[f"/moved.git/{first}"] = Page(status=301, headers={"Location": f"/a.git/{first}"})
    flags = ("build", "--secret", "id=GIT_AUTH_TOKEN.127.0.0.1,env=TOKEN", "-o", me.out / "o")
    context = me.context({"Dockerfile": f"FROM scratch\nADD {web.url}/moved.git /\n"})
    me(*flags, context, env={"TOKEN": web.token})
    assert (me.out / "o/f").exists()
    with Web() as elsewhere:
        location = f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/a.git/{first}"
        web.pages[f"/gone.git/{first}"] = Page(status=302, headers={"Location": location})
        context = me.context({"Dockerfile": f"FROM scratch\nADD {web.url}/gone.git /\n"})
        done = me(*flags, context, status=1, env={"TOKEN": web.token})
        assert "its token goes to no other server" in done.stderr and "http://localhost:" in done.stderr
        assert elsewhere.requests == []
