from __future__ import annotations

import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from buildkit_py.errors import RegistryError
from buildkit_py.oci import media
from buildkit_py.registry.challenge import Challenge, parse
from tests.unit.registry.conftest import Connect
from tests.unit.registry.fake import FakeRegistry, Handler, answering

BASIC = "Basic dXNlcjpzZWNyZXQ="


def auths(fake: FakeRegistry, **entry: str) -> str:
    return json.dumps({"auths": {fake.address: entry or {"auth": "dXNlcjpzZWNyZXQ="}}})


def guard_basic(fake: FakeRegistry) -> None:
    def guard(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == BASIC:
            return True
        handler.reply(401, WWW_Authenticate='Basic realm="here"')
        return False

    fake.guard = guard


class TokenServer:
    """Guards a registry with tokens that another server gives out."""

    def __init__(self, registry: FakeRegistry, server: FakeRegistry, *, anonymous: bool = True) -> None:
        self.valid: set[str] = set()
        self.anonymous = anonymous
        self.expires_in = 300
        self.requests: list[dict[str, list[str]]] = []
        self.count = 0
        self.realm = f"http://{server.address}/token"
        registry.guard = self._guard_registry
        server.guard = self._give

    def _guard_registry(self, handler: Handler) -> bool:
        if handler.headers.get("Authorization", "").removeprefix("Bearer ") in self.valid:
            return True
        challenge = f'Bearer realm="{self.realm}",service="the registry",scope="repository:x:pull"'
        handler.reply(401, WWW_Authenticate=challenge)
        return False

    def _give(self, handler: Handler) -> bool:
        if handler.command == "POST":
            query = parse_qs(handler.body().decode())
        else:
            query = parse_qs(urlsplit(handler.path).query)
        self.requests.append(query)
        known = handler.headers.get("Authorization") == BASIC or query.get("refresh_token") == ["refresh"]
        if not (known or self.anonymous):
            handler.reply(401, b'{"errors":[{"message":"who are you"}]}')
            return False
        self.count += 1
        token = f"token{self.count}"
        self.valid.add(token)
        handler.reply(200, json.dumps({"token": token, "expires_in": self.expires_in}).encode())
        return False


@pytest.fixture
def registry(fake: FakeRegistry) -> FakeRegistry:
    for tag in ("1", "2"):
        fake.add_manifest("team/app", tag, {}, media.OCI_MANIFEST)
    return fake


def test_basic(registry: FakeRegistry, connect: Connect) -> None:
    guard_basic(registry)
    client = connect(auths=auths(registry))
    client.fetch_manifest(registry.address, "team/app", "1")
    client.fetch_manifest(registry.address, "team/app", "2")
    sent = [seen.headers.get("Authorization") for seen in registry.seen]
    assert sent == [None, BASIC, BASIC], "nothing before it is asked for, then at once"


@pytest.mark.parametrize("text", ["{}", '{"auths": {"other.io": {"auth": "dXNlcjpzZWNyZXQ="}}}', "not json"])
def test_basic_without_credentials(registry: FakeRegistry, connect: Connect, text: str) -> None:
    guard_basic(registry)
    with pytest.raises(RegistryError) as caught:
        connect(auths=text).fetch_manifest(registry.address, "team/app", "1")
    assert caught.value.status == 401 and "pybuild login" in caught.value.hint


def test_wrong_credentials_are_tried_once(registry: FakeRegistry, connect: Connect) -> None:
    guard_basic(registry)
    client = connect(auths=auths(registry, username="user", password="wrong"))
    with pytest.raises(RegistryError):
        client.fetch_manifest(registry.address, "team/app", "1")
    assert len(registry.seen) == 2


def test_an_anonymous_token_serves_until_it_ends(
    registry: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    server = TokenServer(registry, other)
    client = connect()
    client.fetch_manifest(registry.address, "team/app", "1")
    client.fetch_manifest(registry.address, "team/app", "2")
    assert server.requests == [{"service": ["the registry"], "scope": ["repository:team/app:pull"]}]
    client.has_blob(registry.address, "team/app", "sha256:x")  # type: ignore[arg-type]
    assert server.requests[1]["scope"] == ["repository:team/app:pull,push"]


def test_a_token_for_a_user(registry: FakeRegistry, other: FakeRegistry, connect: Connect) -> None:
    TokenServer(registry, other, anonymous=False)
    connect(auths=auths(registry)).fetch_manifest(registry.address, "team/app", "1")
    with pytest.raises(RegistryError, match="who are you"):
        connect().fetch_manifest(registry.address, "team/app", "1")


def test_an_identity_token(registry: FakeRegistry, other: FakeRegistry, connect: Connect) -> None:
    server = TokenServer(registry, other, anonymous=False)
    client = connect(auths=auths(registry, identitytoken="refresh"))
    client.fetch_manifest(registry.address, "team/app", "1")
    assert server.requests[0]["grant_type"] == ["refresh_token"]
    assert "Authorization" not in other.seen[0].headers


def test_a_token_that_the_registry_forgot(
    registry: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    server = TokenServer(registry, other)
    client = connect()
    client.fetch_manifest(registry.address, "team/app", "1")
    server.valid.clear()
    client.fetch_manifest(registry.address, "team/app", "2")
    assert server.count == 2


def test_a_token_that_has_ended(
    registry: FakeRegistry, other: FakeRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = TokenServer(registry, other)
    client = connect()
    client.fetch_manifest(registry.address, "team/app", "1")
    later = time.monotonic() + 295
    monkeypatch.setattr(time, "monotonic", lambda: later)
    client.fetch_manifest(registry.address, "team/app", "2")
    assert server.count == 2 and len(registry.seen) == 3, "replaced before the registry refuses it"


def test_mounting_asks_for_both_repositories(
    registry: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    server = TokenServer(registry, other)
    digest = registry.add_blob(b"x")
    assert connect().mount_blob(registry.address, "team/app", digest, "team/base")  # type: ignore[arg-type]
    assert server.requests[0]["scope"] == ["repository:team/app:pull,push", "repository:team/base:pull"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nb"}', b'{"token":"x","expires_in":"soon"}']
)
def test_a_token_server_that_answers_nonsense(
    registry: FakeRegistry, other: FakeRegistry, connect: Connect, body: bytes
) -> None:
    TokenServer(registry, other)
    other.fault("GET", "token", lambda h: h.reply(200, body))
    with pytest.raises(RegistryError, match="token server"):
        connect().fetch_manifest(registry.address, "team/app", "1")


def test_a_token_server_that_is_not_there(
    registry: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    TokenServer(registry, other)
    other.guard = answering(404)
    with pytest.raises(RegistryError, match=r"the token server 127\.0\.0\.1: Not Found"):
        connect().fetch_manifest(registry.address, "team/app", "1")


def test_a_token_goes_before_a_password(
    registry: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    server = TokenServer(registry, other)

    def guard(handler: Handler) -> bool:
        if handler.headers.get("Authorization", "").removeprefix("Bearer ") in server.valid:
            return True
        handler.reply(401, WWW_Authenticate=f'Basic realm="x", Bearer realm="{server.realm}"')
        return False

    registry.guard = guard
    connect(auths=auths(registry)).fetch_manifest(registry.address, "team/app", "1")
    assert server.count == 1


def test_a_token_server_elsewhere_must_be_reached_by_tls(
    registry: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    """A registry by TLS that names a plain token server would give credentials to everybody."""
    from buildkit_py.registry.credentials import Credentials
    from buildkit_py.registry.endpoint import Endpoint
    from buildkit_py.registry.settings import HostSettings
    from buildkit_py.registry.transport import load_httpx

    load_httpx()
    import httpx

    endpoint = Endpoint("registry.example.com", HostSettings(), Credentials({}))
    with pytest.raises(RegistryError, match="not reached by https"):
        endpoint.authorization.check_realm(httpx.URL("http://evil.example.com/token"))
    with pytest.raises(RegistryError, match="not reached by https"):
        endpoint.authorization.check_realm(httpx.URL("file:///etc/passwd"))
    endpoint.authorization.check_realm(httpx.URL("https://auth.example.com/token"))


def test_a_secret_that_comes_back_is_not_shown(registry: FakeRegistry, connect: Connect) -> None:
    def guard(handler: Handler) -> bool:
        if handler.headers.get("Authorization") is None:
            handler.reply(401, WWW_Authenticate='Basic realm="here"')
        else:
            text = f"the password secret ({handler.headers['Authorization']}) is wrong"
            handler.reply(403, json.dumps({"errors": [{"message": text}]}).encode())
        return False

    registry.guard = guard
    with pytest.raises(RegistryError, match=r"the password \*\*\* \(Basic \*\*\*\) is wrong"):
        connect(auths=auths(registry)).fetch_manifest(registry.address, "team/app", "1")


def test_secrets_are_not_shown(registry: FakeRegistry, connect: Connect) -> None:
    from buildkit_py.registry.credentials import Credential

    assert "secret" not in repr(Credential("user", "secret", "secret"))
    guard_basic(registry)
    registry.fault("GET", "manifests", lambda h: h.reply(401, WWW_Authenticate='Basic realm="x"'), times=2)
    with pytest.raises(RegistryError) as caught:
        connect(auths=auths(registry)).fetch_manifest(registry.address, "team/app", "1")
    assert "secret" not in caught.value.message + caught.value.hint and "dXNlc" not in caught.value.message


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", []),
        ("Basic", [Challenge("basic", {})]),
        ('Basic realm="a b"', [Challenge("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"}
                )
            ],
        ),
        ("Bearer realm=x , service = y", [Challenge("bearer", {"realm": "x", "service": "y"})]),
        (
            'Basic realm="x", Bearer realm="y"',
            [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y"})],
        ),
        (r'Bearer realm="a\"b"', [Challenge("bearer", {"realm": 'a"b'})]),
        ('Bearer realm="unterminated', [Challenge("bearer", {})]),
        ("=", []),
        ("Bearer realm=x,realm=y", [Challenge("bearer", {"realm": "x"})]),
    ],
)
def test_challenges(header: str, challenges: list[Challenge]) -> None:
    assert parse(header) == challenges


def test_a_challenge_of_any_length_takes_no_time() -> None:
    started = time.perf_counter()
    parse('Bearer realm="' + "\\" * 1_000_000)
    parse("a=" * 1_000_000)
    parse("a " * 1_000_000)
    assert time.perf_counter() - started < 1
