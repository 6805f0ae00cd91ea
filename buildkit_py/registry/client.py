"""The distribution API (OCI distribution spec 1.1): manifests and blobs, in and out.

The client takes names as they stand in a normalised reference (``docker.io``, ``library/busybox``).
Reading goes to the mirrors of a registry in their order, then to the registry itself; writing to the registry
alone. What is read is verified by digest and size before the call returns or the iterator ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from urllib.parse import quote, urljoin, urlsplit

from buildkit_py.digest import Digest, is_valid, of_bytes
from buildkit_py.errors import NotFoundError, RegistryError
from buildkit_py.oci import media
from buildkit_py.registry import blob
from buildkit_py.registry.credentials import Credentials
from buildkit_py.registry.endpoint import Answer, Endpoint
from buildkit_py.registry.settings import Settings, load, split_mirror
from buildkit_py.tuples import NamedTuple

_ACCEPT = ", ".join([media.OCI_MANIFEST, media.OCI_INDEX, media.DOCKER_MANIFEST, media.DOCKER_LIST])
_MAX_MANIFEST = 4 << 20


class Fetched(NamedTuple):
    data: bytes
    media_type: str
    digest: Digest


class Uploaded(NamedTuple):
    digest: Digest
    size: int


class RegistryClient:
    """Thread-safe; one for a command. Nothing is read or imported before the first request."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        credentials: Credentials | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._credentials = credentials or Credentials()
        self._sleep = sleep
        self._lock = threading.Lock()
        self._endpoints: dict[tuple[str, str], Endpoint] = {}

    def close(self) -> None:
        with self._lock:
            for endpoint in self._endpoints.values():
                endpoint.close()
            self._endpoints.clear()

    def check(self, registry: str) -> None:
        """Whether the registry lets us in. Raises RegistryError."""
        self._endpoint(registry).check()

    def fetch_manifest(self, registry: str, repository: str, reference: str) -> Fetched:
        """A manifest or index by tag or digest, its digest checked; its content is still to be validated.

        Raises NotFoundError, RegistryError.
        """
        what = f"{registry}/{repository}{'@' if is_valid(reference) else ':'}{reference}"

        def ask(endpoint: Endpoint) -> Answer:
            answer = self._manifest(endpoint, repository, reference, "GET")
            told = answer.headers.get("Docker-Content-Digest", "")
            expected = reference if is_valid(reference) else told
            if is_valid(expected) and of_bytes(answer.body) != expected:
                raise RegistryError(
                    f"{what} is damaged: its digest is {of_bytes(answer.body)}, not {expected}",
                    hint="the registry or something between it and here changes data",
                )
            return answer

        answer = self._from_any(registry, what, ask)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type in media.DOCKER_SCHEMA1:
            raise RegistryError(
                f"{what} is only there in Docker's schema 1, which is obsolete since 2017",
                hint="push the image again with a newer tool",
            )
        return Fetched(answer.body, media_type, of_bytes(answer.body))

    def tags(self, registry: str, repository: str) -> list[str]:
        """Every tag of a repository (distribution spec, 4.4.1). Raises NotFoundError, RegistryError."""
        import json

        found: list[str] = []
        path = "tags/list"
        while path:
            answer = self._from_any(
                registry,
                f"{registry}/{repository}",
                lambda e, path=path: e.request("GET", repository, path),  # type: ignore[misc]
            )
            try:
                page = [str(tag) for tag in json.loads(answer.body)["tags"] or ()]
            except (ValueError, KeyError, TypeError):
                raise RegistryError(f"{registry} does not list the tags of {repository}") from None
            more = set(page).difference(found)
            found += sorted(more)
            link = answer.headers.get("Link", "")
            query = urlsplit(link.partition("<")[2].partition(">")[0]).query
            path = f"tags/list?{query}" if more and query and 'rel="next"' in link else ""
        return found

    def manifest_digest(self, registry: str, repository: str, reference: str) -> Digest | None:
        """What a tag means now, without fetching it; None where the registry does not say.

        Raises NotFoundError, RegistryError.
        """
        what = f"{registry}/{repository}:{reference}"
        answer = self._from_any(registry, what, lambda e: self._manifest(e, repository, reference, "HEAD"))
        told = answer.headers.get("Docker-Content-Digest", "")
        return Digest(told) if is_valid(told) else None

    def blob(self, registry: str, repository: str, digest: Digest, size: int) -> Iterator[bytes]:
        """The bytes of a blob; see buildkit_py.registry.blob.fetch."""
        return blob.fetch(self._readers(registry), repository, digest, size)

    def fetch_blob(self, registry: str, repository: str, digest: Digest, size: int) -> bytes:
        """A small blob as a whole (a config)."""
        if size > _MAX_MANIFEST:
            raise RegistryError(f"{registry}/{repository}@{digest} has {size} bytes, too much for a document")
        return b"".join(self.blob(registry, repository, digest, size))

    def has_blob(self, registry: str, repository: str, digest: Digest) -> bool:
        """Whether the registry itself has the blob in this repository."""
        try:
            self._writer(registry).request("HEAD", repository, f"blobs/{digest}", scope="pull,push")
        except NotFoundError:
            return False
        return True

    def mount_blob(self, registry: str, repository: str, digest: Digest, source: str) -> bool:
        """Let a blob of another repository of this registry appear in this one; False where it won't."""
        endpoint = self._writer(registry)
        path = f"blobs/uploads/?mount={quote(digest)}&from={quote(source, safe='')}"
        with endpoint.stream(
            "POST",
            repository,
            path,
            scope="pull,push",
            scopes=(f"repository:{source}:pull",),
            headers={"Content-Length": "0"},
        ) as response:
            status, location, url = response.status_code, response.headers.get("Location"), str(response.url)
            response.read()
        if status != 201 and location:
            self._cancel(endpoint, repository, url, location)
        return status == 201

    def upload_blob(
        self,
        registry: str,
        repository: str,
        produce: Callable[[], Iterable[bytes]],
        *,
        finished: Callable[[], Uploaded] | None = None,
    ) -> Uploaded:
        """Send a blob while it is being made, of unknown size: one PATCH with all data, PUT with the digest.

        ``produce`` makes the bytes; it is called again where an attempt fails on the way. ``finished`` tells
        digest and size after the last byte, for a producer that hashes in another thread; without it they
        are taken here.
        """
        endpoint = self._writer(registry)

        def once() -> Uploaded:
            location = self._start(endpoint, repository)
            counted = _Counted(produce(), hashing=finished is None)
            with endpoint.stream(
                "PATCH",
                repository,
                location,
                scope="pull,push",
                headers={"Content-Type": "application/octet-stream"},
                content=iter(counted),
            ) as response:
                location = self._location(endpoint, response.headers.get("Location"), str(response.url))
                response.read()
            uploaded = counted.result() if finished is None else finished()
            self._finish(endpoint, repository, location, uploaded)
            return uploaded

        return endpoint.persistently(once)

    def upload_bytes(self, registry: str, repository: str, data: bytes) -> Uploaded:
        """Send a small blob (a config)."""
        endpoint = self._writer(registry)
        uploaded = Uploaded(of_bytes(data), len(data))

        def once() -> Uploaded:
            self._finish(endpoint, repository, self._start(endpoint, repository), uploaded, data)
            return uploaded

        return endpoint.persistently(once)

    def put_manifest(
        self, registry: str, repository: str, reference: str, data: bytes, media_type: str
    ) -> Digest:
        """Store a manifest or index under a tag or its digest."""
        self._writer(registry).request(
            "PUT",
            repository,
            f"manifests/{reference}",
            scope="pull,push",
            headers={"Content-Type": media_type},
            content=data,
        )
        return of_bytes(data)

    def _manifest(self, endpoint: Endpoint, repository: str, reference: str, method: str) -> Answer:
        return endpoint.request(method, repository, f"manifests/{reference}", headers={"Accept": _ACCEPT})

    def _from_any(self, registry: str, what: str, ask: Callable[[Endpoint], Answer]) -> Answer:
        """The first answer of the mirrors and the registry; the registry's error where there is none."""
        failed: list[str] = []
        endpoints = self._readers(registry)
        for endpoint in endpoints[:-1]:
            try:
                return ask(endpoint)
            except (RegistryError, NotFoundError) as e:
                failed.append(f"mirror {endpoint.address}: {e.message}")
        try:
            return ask(endpoints[-1])
        except NotFoundError as e:
            raise NotFoundError(_joined(f"{what} was not found", failed), hint=e.hint) from e
        except RegistryError as e:
            raise RegistryError(_joined(e.message, failed), status=e.status, hint=e.hint) from e

    def _readers(self, registry: str) -> list[Endpoint]:
        mirrors = self._loaded().of(registry).mirrors
        return [*(self._endpoint(*split_mirror(mirror)) for mirror in mirrors), self._endpoint(registry)]

    def _writer(self, registry: str) -> Endpoint:
        return self._endpoint(registry)

    def _endpoint(self, registry: str, prefix: str = "") -> Endpoint:
        settings = self._loaded().of(registry)
        with self._lock:
            key = (registry, prefix)
            if key not in self._endpoints:
                self._endpoints[key] = Endpoint(
                    registry, settings, self._credentials, prefix=prefix, sleep=self._sleep
                )
            return self._endpoints[key]

    def trust(self, registry: str) -> None:
        """Ask this registry as with ``insecure = true`` in its settings from now on."""
        settings = self._loaded()
        trusted = settings.of(registry)._replace(insecure=True)
        self._settings = Settings({**settings.hosts, registry: trusted})
        with self._lock:
            known = self._endpoints.pop((registry, ""), None)
        if known is not None:
            known.close()

    def _loaded(self) -> Settings:
        if self._settings is None:
            self._settings = load()
        return self._settings

    def _start(self, endpoint: Endpoint, repository: str) -> str:
        answer = endpoint.request(
            "POST",
            repository,
            "blobs/uploads/",
            scope="pull,push",
            headers={"Content-Length": "0"},
            attempts=1,
        )
        return self._location(endpoint, answer.headers.get("Location"), answer.url)

    def _finish(
        self,
        endpoint: Endpoint,
        repository: str,
        location: str,
        uploaded: Uploaded,
        data: bytes | None = None,
    ) -> None:
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(uploaded.digest)}"
        headers = {"Content-Type": "application/octet-stream"}
        if data is None:
            headers["Content-Length"] = "0"
        endpoint.request("PUT", repository, url, scope="pull,push", headers=headers, content=data, attempts=1)

    def _cancel(self, endpoint: Endpoint, repository: str, url: str, location: str) -> None:
        """Give up an upload that a refused mount has begun; registries collect those left over, too."""
        try:
            target = self._location(endpoint, location, url)
            endpoint.request("DELETE", repository, target, scope="pull,push", attempts=1)
        except (RegistryError, NotFoundError):
            pass

    def _location(self, endpoint: Endpoint, location: str | None, url: str) -> str:
        """Where an upload goes on: relative to the request, and never from TLS to plain http."""
        if not location:
            raise RegistryError(f"{endpoint.address} does not say where an upload goes on")
        try:
            target = urljoin(url, location)
            here, there = urlsplit(url), urlsplit(target)
            _ = there.port
        except ValueError as e:
            raise RegistryError(f"{endpoint.address} sends an upload to an address that is not valid") from e
        if there.scheme not in ("http", "https") or not there.hostname:
            raise RegistryError(f"{endpoint.address} sends an upload to an address that is not http or https")
        if here.scheme == "https" and there.scheme == "http":
            if here.hostname != there.hostname:
                raise RegistryError(f"{endpoint.address} sends an upload to plain http, to {there.hostname}")
            target = there._replace(scheme="https", netloc=here.netloc).geturl()
        return target


class _Counted:
    """Counts and, where nobody else does, hashes what passes."""

    def __init__(self, chunks: Iterable[bytes], *, hashing: bool) -> None:
        self._chunks = chunks
        self._hash = sha256() if hashing else None
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._size += len(chunk)
            if self._hash is not None:
                self._hash.update(chunk)
            yield chunk

    def result(self) -> Uploaded:
        assert self._hash is not None
        return Uploaded(Digest("sha256:" + self._hash.hexdigest()), self._size)


def _joined(message: str, failed: list[str]) -> str:
    return f"{message} ({'; '.join(failed)})" if failed else message
