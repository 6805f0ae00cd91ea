"""Files by HTTP(S): fetched into the content store, and asked for again only where they may have changed.

What is known of a URL (digest, ETag, Last-Modified) stands in the index's table ``http_files``, under the
URL's SHA-256, since a URL may hold a password. A second build asks with If-None-Match and
If-Modified-Since (RFC 9110, 13.1); where the server answers 304, or with the strong ETag that we have,
nothing is read. The bytes themselves are a blob, whose time is that of the last use; prune may take it, and
it is then fetched again.

A file with a checksum is not asked for at all once it is here.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from buildkit_py.content.store import ContentStore
from buildkit_py.database import Database
from buildkit_py.digest import Digest
from buildkit_py.errors import NotFoundError, PybuildError, RegistryError
from buildkit_py.llb.address import shown
from buildkit_py.progress.events import Emit, StatusEvent, ignore
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

    from buildkit_py.registry.settings import Settings

_DDL = """
CREATE TABLE IF NOT EXISTS http_files (
    url TEXT PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL, name TEXT NOT NULL,
    mtime INTEGER NOT NULL, etag TEXT NOT NULL, last_modified TEXT NOT NULL
) WITHOUT ROWID
"""
MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.5
_EVENT_SECONDS = 0.1
_CHUNK = 1 << 18
_DISPOSITION = re.compile(r"""(?:^|;)\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))""", re.IGNORECASE)


class HttpFile(NamedTuple):
    """What is known of a URL's file."""

    digest: Digest
    size: int
    name: str
    """By Content-Disposition, else by the URL; one component."""
    mtime: int
    """Last-Modified in seconds; 0 where the server doesn't tell."""
    etag: str = ""
    last_modified: str = ""


def kept(db: Database) -> list[tuple[Digest, str]]:
    """(digest, name) of every file that a URL was seen to hold; its blob may be gone."""
    db.ensure(_DDL)
    return [
        (Digest(digest), name)
        for digest, name in db.all("SELECT digest, min(name) FROM http_files GROUP BY 1")
    ]


class HttpFiles:
    """Any number of threads may share it. Each URL is asked for once in its life."""

    def __init__(self, content: ContentStore, db: Database) -> None:
        self._content = content
        self._db = db
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._asked: dict[str, HttpFile] = {}
        self._settings: Settings | None = None
        db.ensure(_DDL)

    def get(self, url: str, emit: Emit = ignore, vertex: str = "") -> HttpFile:
        """The file as it is now; fetched where it is new. Its blob may be missing: see ensure().

        Raises PybuildError, which names the URL without its password.
        """
        url = _without_fragment(url)
        with self._one_at_a_time(url):
            if url not in self._asked:
                self._asked[url] = self._fetch(url, self.known(url), emit, vertex)
            return self._asked[url]

    def ensure(self, url: str, digest: Digest, emit: Emit = ignore, vertex: str = "") -> HttpFile:
        """The file with its blob in the store, of exactly this digest; asked for only where it is missing.

        Raises PybuildError where the server has something else.
        """
        url = _without_fragment(url)
        with self._one_at_a_time(url):
            known = self._asked.get(url) or self.known(url)
            if self._is_sound(digest):
                os.utime(self._content.path(digest))
                if known is not None and known.digest == digest:
                    return known
                return HttpFile(digest, self._content.size(digest), url_name(url), 0)
            found = self._fetch(url, None, emit, vertex, expected=digest)
            self._asked[url] = found
            return found

    def has(self, digest: Digest) -> bool:
        return self._content.has(digest)

    def path(self, file: HttpFile) -> str:
        """Where the data lie."""
        return self._content.path(file.digest)

    def known(self, url: str) -> HttpFile | None:
        """What was seen of a URL when it was last asked for."""
        row = self._db.one(
            "SELECT digest, size, name, mtime, etag, last_modified FROM http_files WHERE url = ?",
            (_row_key(url),),
        )
        return None if row is None else HttpFile(*row)

    def _is_sound(self, digest: Digest) -> bool:
        """Whether the blob is here and whole: after a power cut it may be too short."""
        from hashlib import file_digest

        try:
            with self._content.open(digest) as stored:
                if "sha256:" + file_digest(stored, "sha256").hexdigest() == digest:  # type: ignore[arg-type]
                    return True
        except NotFoundError:
            return False
        self._content.delete(digest)
        return False

    @contextmanager
    def _one_at_a_time(self, url: str) -> Iterator[None]:
        with self._lock:
            lock = self._locks.setdefault(url, threading.Lock())
        with lock:
            yield

    # requests

    def _fetch(
        self,
        url: str,
        known: HttpFile | None,
        emit: Emit,
        vertex: str,
        *,
        expected: Digest | None = None,
    ) -> HttpFile:
        from buildkit_py.registry.transport import TransientError

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._follow(url, known, emit, vertex, expected)
            except TransientError as e:
                if attempt == _ATTEMPTS:
                    raise PybuildError(f"{shown(url)}: {e.message}", hint=e.hint) from e
                time.sleep(min(e.after or _PAUSE_SECONDS * 2**attempt, 30.0))
            except RegistryError as e:
                raise PybuildError(f"{shown(url)}: {e.message}", hint=_hint(e)) from e
        raise AssertionError("unreachable")

    def _follow(
        self, url: str, known: HttpFile | None, emit: Emit, vertex: str, expected: Digest | None
    ) -> HttpFile:
        """One attempt: the request and its redirects."""
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            with self._request(place, known) as response:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    place = _redirected(url, place, response.headers["location"])
                    continue
                return self._answered(url, response, known, emit, vertex, expected)
        raise PybuildError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    @contextmanager
    def _request(self, url: str, known: HttpFile | None) -> Iterator[httpx.Response]:
        from buildkit_py.registry import settings, transport

        transport.load_httpx()
        import httpx

        if self._settings is None:
            self._settings = settings.load()
        host = urlsplit(url).netloc.rpartition("@")[2]
        if not host:
            raise PybuildError(f"{shown(url)} is not a URL: it names no host")
        headers = {}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
        try:
            with (
                transport.client(
                    self._settings.of(host), direct=settings.is_loopback(host), tls=url.startswith("https:")
                ) as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                yield response
        except httpx.InvalidURL as e:
            raise PybuildError(f"{shown(url)} is not a URL: {e}") from e
        except (httpx.HTTPError, UnicodeError) as e:
            raise transport.explained(e, host) from e

    def _answered(
        self,
        url: str,
        response: httpx.Response,
        known: HttpFile | None,
        emit: Emit,
        vertex: str,
        expected: Digest | None,
    ) -> HttpFile:
        status = response.status_code
        etag = response.headers.get("etag", "")
        if known is not None and (status == 304 or (status == 200 and _same(etag, known.etag))):
            return known
        if status != 200:
            raise _refused(url, response)
        last_modified = response.headers.get("last-modified", "")
        with self._content.writer() as writer:
            total = _number(response.headers.get("content-length", ""))
            started = shown_at = time.time()
            what = f"downloading {shown(url)}" if vertex else ""
            for chunk in response.iter_raw(_CHUNK):
                writer.write(chunk)
                now = time.time()
                if now - shown_at >= _EVENT_SECONDS:
                    shown_at = now
                    emit(StatusEvent(vertex, what, writer.size, total, started))
            digest = writer.digest()
            if expected is not None and digest != expected:
                raise _mismatch(url, expected, digest)
            writer.commit()
            emit(StatusEvent(vertex, what, writer.size, writer.size, started, time.time()))
            found = HttpFile(
                digest,
                writer.size,
                _disposition(response.headers.get("content-disposition", "")) or url_name(url),
                _seconds(last_modified),
                etag,
                last_modified,
            )
        self._db.run(
            "INSERT OR REPLACE INTO http_files VALUES (?, ?, ?, ?, ?, ?, ?)", (_row_key(url), *found)
        )
        return found


def url_name(url: str) -> str:
    """The last component of a URL's path, decoded; "" where it has none."""
    return safe_name(unquote(urlsplit(url).path, errors="surrogateescape").rstrip("/"))


def safe_name(name: str) -> str:
    name = name.rpartition("/")[2]
    return "" if name in (".", "..") or "\0" in name or len(name) > 255 else name


def _without_fragment(url: str) -> str:
    try:
        return urlunsplit(urlsplit(url)._replace(fragment=""))
    except ValueError as e:
        raise PybuildError(f"{shown(url)} is not a URL: {e}") from e


def _row_key(url: str) -> str:
    return sha256(_without_fragment(url).encode("utf-8", "surrogateescape")).hexdigest()


def _redirected(first: str, place: str, location: str) -> str:
    try:
        target = _without_fragment(urljoin(place, location))
    except ValueError as e:
        raise PybuildError(f"{shown(first)} leads to what is not a URL: {e}") from e
    if not target.startswith(("http://", "https://")):
        raise PybuildError(f"{shown(first)} leads to {shown(target)}, which is no http or https URL")
    return target


def _same(etag: str, known: str) -> bool:
    """Strong comparison (RFC 9110, 8.8.3.2): a weak one doesn't promise the same bytes."""
    return bool(etag) and etag == known and not etag.startswith("W/")


def _refused(url: str, response: httpx.Response) -> PybuildError:
    from buildkit_py.registry.transport import TransientError

    status = response.status_code
    reason = "".join(c if c.isprintable() else "?" for c in response.reason_phrase)[:100]
    message = f"the server answered {status} {reason}".rstrip()
    if status == 429 or status >= 500:
        after = _number(response.headers.get("retry-after", ""))
        return TransientError(message, status=status, after=float(after))
    if status in (404, 410):
        return NotFoundError(f"{shown(url)} is not there: {message}", hint="check the URL")
    hint = "the file needs a login, which ADD can't give" if status in (401, 403, 407) else ""
    return PybuildError(f"{shown(url)}: {message}", hint=hint)


def _mismatch(url: str, expected: Digest, found: Digest) -> PybuildError:
    return PybuildError(
        f"{shown(url)} has the digest {found}, not {expected} as it should",
        hint="the file has changed since its checksum was taken, or somebody has tampered with it",
    )


def _hint(error: RegistryError) -> str:
    """A registry's hint in words for any server."""
    if "certificate" in error.message:
        return "name a file of the certificates to trust in SSL_CERT_FILE"
    if "does not speak TLS" in error.message:
        return "is it http:// that is meant?"
    hint = error.hint.replace("is the registry running there?", "is a server running there?")
    return hint.partition("; or name a mirror")[0]


def _disposition(header: str) -> str:
    found = _DISPOSITION.search(header[:4096])
    if found is None:
        return ""
    return safe_name(re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2])


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _seconds(http_date: str) -> int:
    if not http_date:
        return 0
    from email.utils import parsedate_to_datetime

    try:
        return max(int(parsedate_to_datetime(http_date).timestamp()), 0)
    except (ValueError, TypeError, OverflowError):
        return 0
