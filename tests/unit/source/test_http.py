"""Files by HTTP: what is asked, what is kept, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.content.store import ContentStore
from buildkit_py.database import Database
from buildkit_py.digest import of_bytes
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.progress.events import Event, StatusEvent
from buildkit_py.source import http as module
from buildkit_py.source.http import HttpFiles, url_name
from tests.support.web import Page, Web

DATED = {"Last-Modified": "Thu, 02 Jan 2020 03:04:05 GMT"}


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as web:
        yield web


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = Database(str(tmp_path / "index.db"))
    yield db
    db.close()


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.001)


def _files(content: ContentStore, db: Database) -> HttpFiles:
    """As a new build has them."""
    return HttpFiles(content, db)


def test_fetch(web: Web, content: ContentStore, db: Database) -> None:
    web.pages["/d/f%20g.txt?x=1"] = Page(b"data", headers=DATED)
    events: list[Event] = []
    files = _files(content, db)
    found = files.get(f"{web.url}/d/f%20g.txt?x=1#part", events.append, "v")
    assert found[:4] == (of_bytes(b"data"), 4, "f g.txt", 1577934245)
    assert content.read(found.digest) == b"data"
    assert [e.vertex for e in events if isinstance(e, StatusEvent) and e.completed] == ["v"]
    assert files.get(f"{web.url}/d/f%20g.txt?x=1") == found
    assert web.paths() == ["/d/f%20g.txt?x=1"]
    assert web.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"ETag": 'W/"1"'}, DATED])
def test_revalidation(web: Web, content: ContentStore, db: Database, headers: dict[str, str]) -> None:
    web.pages["/f"] = Page(b"one", headers=headers)
    first = _files(content, db).get(f"{web.url}/f")
    content.delete(first.digest)
    assert _files(content, db).get(f"{web.url}/f") == first
    assert web.answers == [200, 304]
    web.pages["/f"] = Page(b"two", headers={"ETag": '"2"'})
    assert _files(content, db).get(f"{web.url}/f").digest == of_bytes(b"two")


def test_server_that_ignores_conditions(web: Web, content: ContentStore, db: Database) -> None:
    strong = Page(b"one", headers={"ETag": '"1"'}, honours=False)
    web.pages["/f"] = [strong, strong._replace(data=b"not read")]
    first = _files(content, db).get(f"{web.url}/f")
    assert _files(content, db).get(f"{web.url}/f") == first
    weak = Page(b"one", headers={"ETag": 'W/"1"'}, honours=False)
    web.pages["/g"] = [weak, weak._replace(data=b"two")]
    _files(content, db).get(f"{web.url}/g")
    assert _files(content, db).get(f"{web.url}/g").digest == of_bytes(b"two")


def test_ensure_asks_only_for_what_is_missing(web: Web, content: ContentStore, db: Database) -> None:
    web.pages["/f"] = Page(b"data", headers=DATED)
    digest = of_bytes(b"data")
    files = _files(content, db)
    assert files.ensure(f"{web.url}/f", digest).mtime == 1577934245
    assert files.ensure(f"{web.url}/f", digest).mtime == 1577934245
    assert len(web.requests) == 1
    assert files.ensure(f"{web.url}/elsewhere", digest)[:4] == (digest, 4, "elsewhere", 0)
    assert len(web.requests) == 1


def test_damaged_blob_is_fetched_again(web: Web, content: ContentStore, db: Database) -> None:
    web.pages["/f"] = Page(b"data")
    digest = content.write(b"data")
    Path(content.path(digest)).write_bytes(b"da")
    assert _files(content, db).ensure(f"{web.url}/f", digest).digest == digest
    assert content.read(digest) == b"data"


def test_wrong_checksum_keeps_nothing(web: Web, content: ContentStore, db: Database) -> None:
    web.pages["/f"] = Page(b"data")
    wanted = of_bytes(b"other")
    with pytest.raises(PybuildError, match=rf"{of_bytes(b'data')}, not {wanted}"):
        _files(content, db).ensure(f"{web.url}/f", wanted)
    assert list(content.digests()) == []
    assert _files(content, db).known(f"{web.url}/f") is None


def test_redirects(web: Web, content: ContentStore, db: Database) -> None:
    for n in range(10):
        web.pages[f"/{n}"] = Page(status=(301, 302, 303, 307, 308)[n % 5], headers={"Location": f"{n + 1}"})
    web.pages["/10"] = Page(b"x")
    assert _files(content, db).get(f"{web.url}/0").name == "0"
    web.pages["/start"] = Page(status=302, headers={"Location": "/0"})
    with pytest.raises(PybuildError, match="more than 10 redirects"):
        _files(content, db).get(f"{web.url}/start")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://h/x", "gopher://h", "data:,x"])
def test_redirect_to_another_scheme(web: Web, content: ContentStore, db: Database, target: str) -> None:
    web.pages["/f"] = Page(status=302, headers={"Location": target})
    with pytest.raises(PybuildError, match="URL"):
        _files(content, db).get(f"{web.url}/f")


def test_login_does_not_follow_elsewhere_nor_shows(web: Web, content: ContentStore, db: Database) -> None:
    with Web() as other:
        web.pages["/f"] = Page(status=302, headers={"Location": f"{other.url}/g"})
        other.pages["/g"] = Page(b"no", 403)
        with pytest.raises(PybuildError) as caught:
            _files(content, db).get(f"http://user:secret@{web.address}/f")
        assert "secret" not in str(caught.value)
        assert "Authorization" in web.requests[0].headers
        assert "Authorization" not in other.requests[0].headers
    assert all("secret" not in str(row) for row in db.all("SELECT * FROM http_files"))


def test_what_passes_is_tried_again(web: Web, content: ContentStore, db: Database) -> None:
    web.pages["/f"] = [Page(status=503), Page(b"data" * 100, cut=10), Page(b"data")]
    assert _files(content, db).get(f"{web.url}/f").size == 4
    web.pages["/g"] = Page(status=500)
    with pytest.raises(PybuildError, match="answered 500"):
        _files(content, db).get(f"{web.url}/g")
    assert web.paths().count("/g") == 3
    assert len(list(content.digests())) == 1


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (403, PybuildError), (204, PybuildError)])
def test_refusals(
    web: Web, content: ContentStore, db: Database, status: int, kind: type[PybuildError]
) -> None:
    web.pages["/f"] = Page(status=status)
    with pytest.raises(kind, match=str(status)):
        _files(content, db).get(f"{web.url}/f")
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x",
        "http://[::bad/",
        "http://h ost/",
        "http://",
        "http:///x",
        "http://a..b/",
        "http://" + "a" * 70,
    ],
)
def test_no_server(content: ContentStore, db: Database, url: str) -> None:
    with pytest.raises(PybuildError):
        _files(content, db).get(url)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="a b.tar"', "a b.tar"),
        ("attachment; filename=x.bin; size=3", "x.bin"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename=".."', "f"),
        ('attachment; filename="a\\"b"', 'a"b'),
        ("inline", "f"),
    ],
)
def test_name_by_header(web: Web, content: ContentStore, db: Database, header: str, name: str) -> None:
    web.pages["/f"] = Page(b"", headers={"Content-Disposition": header})
    assert _files(content, db).get(f"{web.url}/f").name == name


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://h/a/b.c?d/e", "b.c"), ("http://h/a/", "a"), ("http://h", ""), ("http://h/%2e%2e", "")],
)
def test_url_name(url: str, name: str) -> None:
    assert url_name(url) == name


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Jan 2020 03:04:05 GMT"])
def test_time_that_makes_no_sense(web: Web, content: ContentStore, db: Database, date: str) -> None:
    web.pages["/f"] = Page(b"", headers={"Last-Modified": date})
    assert _files(content, db).get(f"{web.url}/f").mtime == 0
