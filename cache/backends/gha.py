"""``type=gha``: the cache of GitHub Actions, or of a service that speaks its protocol.

An entry there is written once and never changed, so blobs go under their digests and each index under a key
of its own; the latest that begins with the scope's name is the one that counts:

buildkit-py-blob-<digest>               a blob
buildkit-py-index-<scope>#<ms>          the index's config; ms: the time, as 15 digits

Two protocols are spoken. Version 2 (github.com): Twirp calls with JSON at ``$ACTIONS_RESULTS_URL`` give
signed addresses in Azure's blob storage. Version 1 (GitHub Enterprise Server, and most other services): REST
at ``$ACTIONS_CACHE_URL``. Runners hand their variables to actions alone, not to ``run:`` steps;
docs/sharing.md says how to pass them on. GitHub deletes what was not read for a week, and the oldest where a
repository has too much.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

from buildkit_py.cache import sharedread
from buildkit_py.cache.backends import WRITERS, Make, Services, UnavailableError, duration, verified
from buildkit_py.cache.shared import SharedIndex
from buildkit_py.digest import of_bytes
from buildkit_py.errors import ImageError, NotFoundError, RegistryError, UsageError
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci.validate import MAX_DOCUMENT
from buildkit_py.registry import transport
from buildkit_py.registry.settings import HostSettings, is_loopback
from buildkit_py.registry.transport import TransientError
from buildkit_py.typed import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import httpx

VERSION = of_bytes(b"buildkit-py cache 1")[7:]
"""What the service calls a version: entries of different ones don't see each other."""
_TRIES = 4
_PAUSE = 0.5
"""Seconds before the second attempt; twice as long before each later one."""
_CHUNK = 1 << 20
_BLOCK = 32 << 20
"""Bytes sent at once."""
_CALLS = "twirp/github.actions.results.api.v1.CacheService/"
_MAX_ANSWER = 1 << 20


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    def fields(self) -> dict[str, Any]:
        """The JSON object, its names in snake_case: services write them in either way."""
        try:
            found = json.loads(self._body or b"{}")
            return {_snake(name): value for name, value in found.items()}
        except (ValueError, AttributeError, RecursionError):
            return {}


class Requests:
    """HTTP with attempts and a deadline. Addresses may be signed: messages name their hosts alone."""

    def __init__(self, seconds: float, shown: str) -> None:
        self._until = time.monotonic() + seconds
        self._shown = shown
        self._clients: dict[tuple[str, bool], httpx.Client] = {}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        accepted: tuple[int, ...] = (),
    ) -> Answer:
        """``accepted``: statuses of 400 and more that are no error. Raises RegistryError."""

        def once() -> Answer:
            with self.stream(method, url, headers=headers, content=content, accepted=accepted) as response:
                body = b""
                for part in response.iter_raw():
                    body += part
                    if len(body) > _MAX_ANSWER:
                        raise RegistryError(f"{self._shown}: {response.url.host} answers without end")
                return Answer(response.status_code, body)

        return self.persistently(once)

    def persistently(self, once: Callable[[], Answer]) -> Answer:
        for attempt in range(_TRIES):
            try:
                return once()
            except TransientError as e:
                if attempt + 1 == _TRIES:
                    raise
                self.pause(attempt, e.after)
        raise AssertionError("unreachable")

    def pause(self, attempt: int, asked: float) -> None:
        time.sleep(min(max(_PAUSE * 2**attempt, asked), max(0.0, self._until - time.monotonic())))

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        accepted: tuple[int, ...] = (),
    ) -> Iterator[httpx.Response]:
        transport.load_httpx()
        import httpx

        host = urlsplit(url).netloc.rpartition("@")[2]
        self.look_at_the_clock()
        try:
            request = self._client(url).build_request(method, url, headers=headers, content=content)
            response = self._client(url).send(request, stream=True)
            try:
                status = response.status_code
                if status >= 300 and status not in accepted:
                    raise self._failure(status, response)
                yield response
            finally:
                response.close()
        except httpx.HTTPError as e:
            raise transport.explained(e, host) from e
        except (httpx.InvalidURL, ValueError) as e:
            raise RegistryError(f"{self._shown}: it gives an address that is none") from e

    def look_at_the_clock(self) -> None:
        if time.monotonic() > self._until:
            raise RegistryError(f"{self._shown} took too long", hint="give it more time with timeout=30m")

    def _client(self, url: str) -> httpx.Client:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise RegistryError(f"{self._shown}: it gives an address that is not http or https")
        key = (parts.scheme, is_loopback(parts.netloc))
        if key not in self._clients:
            self._clients[key] = transport.client(HostSettings(), direct=key[1], tls=parts.scheme == "https")
        return self._clients[key]

    def _failure(self, status: int, response: httpx.Response) -> RegistryError:
        text = b"".join(part for part, _ in zip(response.iter_raw(), range(4), strict=False))[:4096]
        fields = Answer(status, text).fields()
        said = str(fields.get("msg") or fields.get("message") or response.reason_phrase)[:300]
        said = "".join(c if c.isprintable() else "?" for c in said)
        message = f"{self._shown}: {said} (HTTP {status})"
        if status == 429 or status >= 500:
            after = response.headers.get("Retry-After", "")
            return TransientError(message, status=status, after=float(after) if after.isdigit() else 0.0)
        hint = "ACTIONS_RUNTIME_TOKEN is not accepted (any more)" if status in (401, 403) else ""
        return RegistryError(message, status=status, hint=hint)


class Service(Protocol):
    """One version of the protocol."""

    def find(self, key: str, *, prefix: bool = False) -> str | None:
        """Where the entry of a key can be read, or (``prefix``) the latest whose key begins so."""
        ...

    def save(self, key: str, file: Any, size: int) -> bool:
        """Store the rest of a file as an entry; False where there is one of the key already."""
        ...


class V2:
    """Twirp and signed addresses of Azure's blob storage."""

    def __init__(self, requests: Requests, url: str, token: str) -> None:
        self._requests = requests
        self._url = url.rstrip("/") + "/" + _CALLS
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def _call(self, name: str, accepted: tuple[int, ...] = (), **fields: object) -> Answer:
        content = json.dumps({**fields, "version": VERSION}).encode()
        url = self._url + name
        return self._requests.send("POST", url, headers=self._headers, content=content, accepted=accepted)

    def find(self, key: str, *, prefix: bool = False) -> str | None:
        restore = [key] if prefix else []
        found = self._call("GetCacheEntryDownloadURL", (404,), key=key, restore_keys=restore).fields()
        matched = str(found.get("matched_key") or key)
        if not found.get("ok") or not (matched.startswith(key) if prefix else matched == key):
            return None
        return str(found.get("signed_download_url") or "") or None

    def save(self, key: str, file: Any, size: int) -> bool:
        answer = self._call("CreateCacheEntry", (409,), key=key)
        url = answer.fields().get("signed_upload_url")
        if answer.status == 409 or not answer.fields().get("ok") or not isinstance(url, str):
            return False
        self._upload(url, file, size)
        done = self._call("FinalizeCacheEntryUpload", key=key, size_bytes=str(size)).fields()
        if not done.get("ok"):
            raise RegistryError("the GitHub Actions cache did not take an upload")
        return True

    def _upload(self, url: str, file: Any, size: int) -> None:
        """Put Blob for what is small, else Put Block and Put Block List (Azure's REST API)."""
        whole = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02"}
        if size <= _BLOCK:
            self._requests.send("PUT", url, headers=whole, content=file.read())
            return
        mark = "&" if "?" in url else "?"
        ids: list[str] = []
        while data := _read(file, _BLOCK):
            ids.append(base64.b64encode(f"{len(ids):08d}".encode()).decode())
            place = f"{url}{mark}comp=block&blockid={quote(ids[-1], safe='')}"
            self._requests.send("PUT", place, headers={"x-ms-version": "2021-12-02"}, content=data)
        listed = "".join(f"<Latest>{each}</Latest>" for each in ids)
        text = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'
        headers = {"x-ms-version": "2021-12-02", "Content-Type": "text/plain; charset=UTF-8"}
        self._requests.send("PUT", f"{url}{mark}comp=blocklist", headers=headers, content=text.encode())


class V1:
    """REST."""

    def __init__(self, requests: Requests, url: str, token: str) -> None:
        self._requests = requests
        self._url = url.rstrip("/") + "/_apis/artifactcache/"
        accept = "application/json;api-version=6.0-preview.1"
        self._headers = {"Authorization": f"Bearer {token}", "Accept": accept}

    def find(self, key: str, *, prefix: bool = False) -> str | None:
        url = f"{self._url}cache?keys={quote(key, safe='')}&version={VERSION}"
        answer = self._requests.send("GET", url, headers=self._headers, accepted=(404,))
        found = answer.fields()
        matched = str(found.get("cache_key") or key).lower()
        if answer.status != 200 or not (
            matched.startswith(key.lower()) if prefix else matched == key.lower()
        ):
            return None
        return str(found.get("archive_location") or "") or None

    def save(self, key: str, file: Any, size: int) -> bool:
        headers = {**self._headers, "Content-Type": "application/json"}
        content = json.dumps({"key": key, "version": VERSION, "cacheSize": size}).encode()
        url = self._url + "caches"
        answer = self._requests.send("POST", url, headers=headers, content=content, accepted=(400, 409))
        number = answer.fields().get("cache_id")
        if answer.status >= 400 or number is None:
            return False
        url, start = f"{url}/{number}", 0
        while data := _read(file, _BLOCK):
            part = {
                **self._headers,
                "Content-Type": "application/octet-stream",
                "Content-Range": f"bytes {start}-{start + len(data) - 1}/*",
            }
            self._requests.send("PATCH", url, headers=part, content=data)
            start += len(data)
        self._requests.send("POST", url, headers=headers, content=json.dumps({"size": size}).encode())
        return True


class ActionsBackend:
    def __init__(
        self, service: Service, requests: Requests, scope: str, stage: Callable[[], tuple[int, str]]
    ) -> None:
        self._service = service
        self._requests = requests
        self._index = f"buildkit-py-index-{quote(scope, safe='')}#"
        self._stage = stage
        self.shown = f"the GitHub Actions cache (scope {scope})"
        self.place: tuple[str, str] | None = None
        self.writers = WRITERS

    def read_index(self) -> SharedIndex | None:
        url = self._service.find(self._index, prefix=True)
        if url is None:
            return None
        data = b""
        for chunk in self._bytes(url):
            data += chunk
            if len(data) > MAX_DOCUMENT:
                raise ImageError(f"{self.shown} has an index of more than {MAX_DOCUMENT} bytes")
        return sharedread.decode(data, self.shown)

    def _key(self, blob: LayerBlob) -> str:
        return f"buildkit-py-blob-{blob.digest}"

    def has(self, blob: LayerBlob) -> bool:
        return self._service.find(self._key(blob)) is not None

    def read_blob(self, blob: LayerBlob) -> Iterator[bytes]:
        url = self._service.find(self._key(blob))
        if url is None:
            raise NotFoundError(f"{self.shown} does not have the blob {blob.digest} any more")
        return verified(self._bytes(url), blob, self.shown)

    def _bytes(self, url: str) -> Iterator[bytes]:
        """A connection that breaks is taken up again where it broke."""
        received, attempt = 0, 0
        while True:
            headers = {"Range": f"bytes={received}-"} if received else {}
            try:
                with self._requests.stream("GET", url, headers=headers, accepted=(416,)) as response:
                    if response.status_code == 416:
                        return
                    skip = received if response.status_code != 206 else 0
                    for chunk in response.iter_raw(_CHUNK):
                        self._requests.look_at_the_clock()
                        fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                        received += len(fresh)
                        yield fresh
                return
            except TransientError as e:
                attempt += 1
                if attempt == _TRIES:
                    raise
                self._requests.pause(attempt - 1, e.after)

    def write_blob(self, make: Make) -> LayerBlob:
        """An entry's key is known when the blob has been made, so it passes through a file."""
        fd, path = self._stage()
        try:
            with open_file(fd) as file:
                blob = make(file.write)
                file.seek(0)
                if not self._service.save(self._key(blob), file, blob.size) and not self.has(blob):
                    raise UnavailableError(f"another job is sending the blob {blob.digest}")
        finally:
            os.unlink(path)
        return blob

    def write_index(self, config: bytes, manifest: bytes) -> None:
        import io

        current = self._service.find(self._index, prefix=True)
        if current is not None and b"".join(self._bytes(current)) == config:
            return
        key = f"{self._index}{time.time_ns() // 1_000_000:015d}"
        if not self._service.save(key, io.BytesIO(config), len(config)):
            raise RegistryError(f"{self.shown}: another job writes its index at this moment")

    def close(self) -> None:
        self._requests.close()


def _read(file: Any, size: int) -> bytes:
    """Exactly so many bytes, but at the end."""
    parts: list[bytes] = []
    while size and (data := file.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def open_file(fd: int) -> Any:
    """Unbuffered: what is written comes in large pieces."""
    return os.fdopen(fd, "w+b", buffering=0)


def check(attributes: Mapping[str, str], writing: bool) -> None:
    """Outside of a workflow there is no address: that is told when the cache is opened."""
    asked = attributes.get("version", "")
    if asked not in ("", "1", "2"):
        raise UsageError(f"type=gha: version={asked} is not known", hint="1 or 2")
    duration(attributes.get("timeout", "10m"), "timeout")


def _address(attributes: Mapping[str, str]) -> tuple[int, str, str]:
    """(version of the protocol, address, token). Raises UsageError."""
    env = os.environ
    asked = attributes.get("version", "")
    token = attributes.get("token") or env.get("ACTIONS_RUNTIME_TOKEN", "")
    first = attributes.get("url") or env.get("ACTIONS_CACHE_URL", "")
    second = attributes.get("url_v2") or env.get("ACTIONS_RESULTS_URL", "")
    newer = env.get("ACTIONS_CACHE_SERVICE_V2", "").lower() in ("1", "true") or not first
    version = int(asked) if asked else 2 if second and (newer or attributes.get("url_v2")) else 1
    url = second if version == 2 else first or second
    hint = "a workflow passes them on by an action: see docs/sharing.md"
    if not url:
        name = "ACTIONS_RESULTS_URL" if version == 2 else "ACTIONS_CACHE_URL"
        raise UsageError(f"type=gha needs an address: {name} is not set", hint=hint)
    if not token:
        raise UsageError("type=gha needs a token: ACTIONS_RUNTIME_TOKEN is not set", hint=hint)
    return version, url, token


def open(attributes: Mapping[str, str], services: Services) -> ActionsBackend:
    version, url, token = _address(attributes)
    scope = attributes.get("scope") or "buildkit-py"
    requests = Requests(duration(attributes.get("timeout", "10m"), "timeout"), "the GitHub Actions cache")
    service: Service = (V2 if version == 2 else V1)(requests, url, token)
    return ActionsBackend(service, requests, scope, services.stage)
