"""One server that speaks the distribution API: a registry or a mirror of one.

Here a request becomes an answer: the protocol is found out, credentials are given when they are asked for,
failures that pass are tried again, redirects are followed. What a caller sees is a response below 400, or an
error.

Credentials go to nobody but the server they are for, and to the token server that it names: a redirect to
another origin, or away from TLS, loses the Authorization header.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from buildkit_py.errors import NotFoundError, RegistryError
from buildkit_py.registry import answers, transport
from buildkit_py.registry.authorization import Authorization
from buildkit_py.registry.credentials import Credentials
from buildkit_py.registry.settings import HostSettings, is_loopback
from buildkit_py.registry.transport import NotSpokenError, TransientError
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")

ATTEMPTS = 5
_FIRST_PAUSE = 0.25
_MAX_PAUSE = 30.0
_MAX_REDIRECTS = 10
_HUB_ADDRESS = "registry-1.docker.io"


class Scheme(NamedTuple):
    name: str
    """``http`` or ``https``"""
    certain: bool
    """False: where it does not work, the next one is tried."""


class Endpoint:
    """Thread-safe. ``registry``: ``host[:port]``; ``prefix``: stands before each repository, empty or with a
    ``/`` at its end."""

    def __init__(
        self,
        registry: str,
        settings: HostSettings,
        credentials: Credentials,
        *,
        prefix: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.registry = registry
        self.address = _HUB_ADDRESS if registry == "docker.io" else registry
        self.prefix = prefix
        self._settings = settings
        self._sleep = sleep
        self._schemes = self._all_schemes = _schemes(self.address, settings)
        self._lock = threading.Lock()
        self._clients: dict[str, httpx.Client] = {}
        self.authorization = Authorization(
            registry,
            self.address,
            credentials,
            plain=lambda: self._schemes[0].name == "http" or settings.insecure,
            client=lambda scheme, host: self._client(scheme, host == _host_of(self.address)),
        )

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def request(
        self,
        method: str,
        repository: str,
        path: str,
        *,
        scope: str = "pull",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        attempts: int = ATTEMPTS,
    ) -> Answer:
        """Ask and read the whole answer. ``path``: below ``/v2/<repository>/``, or an absolute URL.

        Raises NotFoundError for 404, RegistryError for everything else that is no success.
        """

        def once() -> Answer:
            with self.stream(
                method, repository, path, scope=scope, headers=headers, content=content
            ) as response:
                return Answer(
                    response.status_code, response.headers, answers.body(response), str(response.url)
                )

        return self.persistently(once, attempts)

    def check(self) -> None:
        """Whether the server speaks this API to us (distribution spec, end-1). Raises RegistryError."""
        try:
            self.request("GET", "", "")
        except NotFoundError as e:
            raise RegistryError(f"{self.address} is no registry: it has no /v2/ (HTTP 404)") from e

    def persistently(self, once: Callable[[], _T], attempts: int = ATTEMPTS) -> _T:
        """Call ``once`` until it returns, raises no TransientError, or was tried ``attempts`` times."""
        for attempt in range(attempts):
            try:
                return once()
            except TransientError as e:
                if attempt + 1 == attempts:
                    raise
                self.pause(attempt, e.after)
        raise AssertionError("unreachable")

    def pause(self, attempt: int, asked: float = 0.0) -> None:
        """Wait before another attempt: longer each time, somewhat at random, or as the server asked."""
        pause = _FIRST_PAUSE * 2**attempt * random.uniform(0.75, 1.25)
        self._sleep(min(max(pause, asked), _MAX_PAUSE))

    @contextmanager
    def stream(
        self,
        method: str,
        repository: str,
        path: str,
        *,
        scope: str = "pull",
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterator[bytes] | None = None,
        scopes: tuple[str, ...] = (),
    ) -> Iterator[httpx.Response]:
        """One attempt at a request; the response's body is still to be read.

        ``scopes``: more access to ask a token server for, as ``repository:NAME:pull``.
        """
        import httpx

        own = (f"repository:{self.prefix}{repository}:{scope}",) if repository else ()
        wanted = " ".join([*own, *scopes])
        response: httpx.Response | None = None
        try:
            try:
                response = self._authorized(method, repository, path, wanted, headers, content)
                self._check(response, repository)
                yield response
            finally:
                if response is not None:
                    response.close()
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as e:
            raise transport.explained(e, self.address) from e

    def url(self, repository: str, path: str, scheme: str) -> str:
        below = f"{self.prefix}{repository}/{path}" if repository else ""
        return f"{scheme}://{self.address}/v2/{below}"

    def _authorized(
        self,
        method: str,
        repository: str,
        path: str,
        wanted: str,
        headers: Mapping[str, str] | None,
        content: bytes | Iterator[bytes] | None,
    ) -> httpx.Response:
        token = self.authorization.header(repository, wanted)
        response = self._any_scheme(method, repository, path, headers, content, token)
        if response.status_code != 401 or _origin(response.url) != self._home():
            # Where a redirect or an upload led to has no say in where our credentials go.
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        if not self.authorization.learn(challenge, repository, wanted, token):
            return response
        answers.body(response)
        response.close()
        if content is not None and not isinstance(content, bytes):
            raise TransientError(
                f"{self.address} asks for credentials in the middle of an upload", status=401
            )
        return self._any_scheme(
            method, repository, path, headers, content, self.authorization.header(repository, wanted)
        )

    def _any_scheme(
        self,
        method: str,
        repository: str,
        path: str,
        headers: Mapping[str, str] | None,
        content: bytes | Iterator[bytes] | None,
        token: str,
    ) -> httpx.Response:
        """Find out what the server speaks with the first request, then stay with it."""
        import httpx

        first: Exception | None = None
        while True:
            scheme = self._schemes[0]
            url = path if "://" in path else self.url(repository, path, scheme.name)
            try:
                response = self._send(method, url, headers, content, token)
                if not self._is_refusal_of_plain(response, scheme):
                    self._settle(scheme)
                    return response
                response.close()
                first = first or NotSpokenError(f"{self.address} does not speak plain http")
            except httpx.TransportError as e:
                error = transport.explained(e, self.address)
                garbled = isinstance(error, NotSpokenError) or isinstance(
                    e, httpx.RemoteProtocolError | httpx.ReadError
                )
                if garbled and first is not None:
                    # It speaks neither: what the first attempt said is what is wrong with it.
                    with self._lock:
                        self._schemes = self._all_schemes
                    raise first from e
                if scheme.certain or not garbled:
                    raise error from e
                first = error
            self._advance(scheme)

    def _is_refusal_of_plain(self, response: httpx.Response, scheme: Scheme) -> bool:
        """Whether this is how a TLS server turns plain http away: Go, nginx and Apache answer 400."""
        if scheme.name != "http" or scheme.certain or response.status_code != 400:
            return False
        return "json" not in response.headers.get("Content-Type", "")  # as a registry's own errors are

    def _settle(self, scheme: Scheme) -> None:
        if not scheme.certain:
            with self._lock:
                self._schemes = [Scheme(scheme.name, True)]

    def _advance(self, failed: Scheme) -> None:
        """Go on to the next scheme (the last one is certain). Another thread may have done it."""
        with self._lock:
            if self._schemes[0] == failed:
                self._schemes = self._schemes[1:]

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        content: bytes | Iterator[bytes] | None,
        authorization: str,
    ) -> httpx.Response:
        import httpx

        home = self._home()
        current = httpx.URL(url)
        for _ in range(_MAX_REDIRECTS):
            own = _origin(current) == home
            sent = dict(headers or {})
            if authorization and own:
                sent["Authorization"] = authorization
            client = self._client(current.scheme, own)
            try:
                request = client.build_request(method, current, headers=sent, content=content)
                response = client.send(request, stream=True, auth=None)
            except (httpx.HTTPError, UnicodeError) as e:
                if own:
                    raise
                raise transport.explained(e, current.netloc.decode("ascii", "replace")) from e
            except httpx.InvalidURL as e:  # the answer's Location
                raise RegistryError(f"{self.address} redirects to an address that is not valid") from e
            again = (301, 302, 303, 307, 308) if method in ("GET", "HEAD") else (307, 308)
            if response.status_code not in again or not isinstance(content, bytes | None):
                return response
            try:
                target = current.join(response.headers.get("Location", ""))
            except httpx.InvalidURL as e:
                raise RegistryError(f"{self.address} redirects to an address that is not valid") from e
            finally:
                response.close()
            self._check_redirect(current, target)
            current = target
        raise RegistryError(f"{self.address} redirects without end")

    def _home(self) -> tuple[str, str, int]:
        import httpx

        return _origin(httpx.URL(f"{self._schemes[0].name}://{self.address}"))

    def _check_redirect(self, source: httpx.URL, target: httpx.URL) -> None:
        if target.scheme not in ("http", "https") or not target.host:
            raise RegistryError(f"{self.address} redirects to an address that is not http or https")
        if source.scheme == "https" and target.scheme == "http" and not self._settings.insecure:
            raise RegistryError(f"{self.address} redirects from https to plain http, to {target.host}")

    def _client(self, scheme: str, own: bool) -> httpx.Client:
        """Ours trusts as the settings say; every other server is met by an ordinary client."""
        key = f"{scheme} own" if own else scheme
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                direct = own and is_loopback(self.address)
                settings = self._settings if own else HostSettings()
                client = transport.client(settings, direct=direct, tls=scheme == "https")
                self._clients[key] = client
            return client

    def _check(self, response: httpx.Response, repository: str) -> None:
        if not response.is_success:
            text = answers.body(response)
            what = f"{self.registry}/{repository}" if repository else self.registry
            raise answers.failure(response, text, what, login_hint=self.authorization.hint())


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


def _schemes(address: str, settings: HostSettings) -> list[Scheme]:
    """The protocols to try in order (see buildkit_py.registry.settings)."""
    if settings.http:
        return [Scheme("http", True)]
    if settings.insecure:
        return [Scheme("https", False), Scheme("http", True)]
    if is_loopback(address) and settings.http is None and not settings.ca and not settings.keypair:
        return [Scheme("http", False), Scheme("https", True)]
    return [Scheme("https", True)]


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _host_of(address: str) -> str:
    if address.startswith("["):
        return address[1 : address.index("]")]
    return address.partition(":")[0].lower()
