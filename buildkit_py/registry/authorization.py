"""The Authorization header for one server: Basic, or Bearer tokens by scope (distribution spec, auth/token).

Nothing is sent before it is asked for. A token is kept for the process, until shortly before its end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from buildkit_py.errors import NotFoundError, RegistryError
from buildkit_py.registry import answers, challenge, transport
from buildkit_py.registry.credentials import Credential, Credentials
from buildkit_py.registry.settings import is_loopback
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

_MAX_TOKEN_BODY = 1 << 20
_MARGIN = 10.0
"""Seconds before its end at which a token is no longer used."""


class _Token(NamedTuple):
    value: str
    expires: float

    def __repr__(self) -> str:
        return "_Token(…)"


class Authorization:
    """Thread-safe. ``plain()``: whether the server itself is reached without TLS; ``client(scheme, host)``:
    what to ask a token server with."""

    def __init__(
        self,
        registry: str,
        address: str,
        credentials: Credentials,
        *,
        plain: Callable[[], bool],
        client: Callable[[str, str], httpx.Client],
    ) -> None:
        self._registry = registry
        self._address = address
        self._credentials = credentials
        self._plain = plain
        self._client = client
        self._lock = threading.Lock()
        self._wants_basic = False
        self._tokens: dict[str, _Token] = {}
        self._bearer: dict[str, str] = {}
        """Parameters of the last Bearer challenge; empty: not asked for so far."""

    def header(self, repository: str, wanted: str) -> str:
        """The header's value as far as we know it; empty: none. ``wanted``: scopes, separated by spaces."""
        if self._bearer:
            with self._lock:
                token = self._tokens.get(wanted)
                if token is None or token.expires < time.monotonic():
                    token = self._tokens[wanted] = self._ask(repository, wanted)
            return f"Bearer {token.value}"
        credential = self._credentials.of(self._registry, repository) if self._wants_basic else None
        return "" if credential is None else _basic(credential)

    def learn(self, asked_for: str, repository: str, wanted: str, used: str) -> bool:
        """Take a WWW-Authenticate in; whether trying again makes sense. ``used``: the header that failed."""
        for asked in sorted(challenge.parse(asked_for), key=lambda each: each.scheme != "bearer"):
            if asked.scheme == "bearer" and asked.parameters.get("realm"):
                self._tokens.pop(wanted, None)
                self._bearer = asked.parameters
                return True
            if asked.scheme == "basic" and not used:
                credential = self._credentials.of(self._registry, repository)
                if credential is not None and credential.username:
                    self._wants_basic = True
                    return True
        return False

    def hint(self) -> str:
        """What to do about a 401."""
        hint = f"it does not exist, or needs other credentials: `pybuild login {self._registry}` stores them"
        problems = self._credentials.problems
        return f"{hint} ({problems[-1]})" if problems else hint

    def check_realm(self, realm: httpx.URL) -> None:
        """Credentials travel to the token server: over TLS, unless the registry itself is without."""
        if realm.scheme == "https":
            return
        if realm.scheme == "http" and (self._plain() or is_loopback(realm.netloc.decode())):
            return
        raise RegistryError(
            f"{self._address} names a token server that is not reached by https: {realm.host}"
        )

    def _ask(self, repository: str, wanted: str) -> _Token:
        import httpx

        credential = self._credentials.of(self._registry, repository)
        try:
            realm = httpx.URL(self._bearer["realm"])
        except httpx.InvalidURL as e:
            raise RegistryError(f"{self._address} names an invalid token server") from e
        self.check_realm(realm)
        client = self._client(realm.scheme, realm.host)
        request = self._request(client, realm, credential, wanted)
        try:
            response = client.send(request, stream=True, auth=None)
            try:
                text = answers.body(response, _MAX_TOKEN_BODY)
            finally:
                response.close()
        except (httpx.HTTPError, UnicodeError) as e:
            raise transport.explained(e, realm.host) from e
        if not response.is_success:
            failed = answers.failure(response, text, f"the token server {realm.host}", login_hint=self.hint())
            if isinstance(failed, NotFoundError):
                raise RegistryError(failed.message, status=response.status_code)
            raise failed
        return _read(text, realm.host)

    def _request(
        self, client: httpx.Client, realm: httpx.URL, credential: Credential | None, wanted: str
    ) -> httpx.Request:
        service = self._bearer.get("service", "")
        if credential is not None and credential.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": "pybuild",
                "scope": wanted,
                "refresh_token": credential.identity_token,
            }
            return client.build_request("POST", realm, data=form)
        query = [("service", service)] if service else []
        query += [("scope", one) for one in wanted.split()]
        url = realm.copy_with(params=[*realm.params.multi_items(), *query])
        headers = {"Authorization": _basic(credential)} if credential is not None else {}
        return client.build_request("GET", url, headers=headers)


def _read(text: bytes, host: str) -> _Token:
    import json

    try:
        document = json.loads(text)
        value = document.get("token") or document.get("access_token")
        seconds = float(document.get("expires_in") or 60)
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as e:
        raise RegistryError(f"the token server {host} answers with something that is not a token") from e
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise RegistryError(f"the token server {host} answers without a token")
    return _Token(value, time.monotonic() + max(seconds - _MARGIN, 1.0))


def _basic(credential: Credential) -> str:
    import base64

    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
