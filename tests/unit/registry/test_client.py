from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator

import pytest

from buildkit_py.digest import Digest, of_bytes
from buildkit_py.errors import NotFoundError, RegistryError, StoreError
from buildkit_py.oci import media
from buildkit_py.registry.client import Uploaded
from buildkit_py.registry.settings import HostSettings
from tests.unit.registry.conftest import Connect
from tests.unit.registry.fake import FakeRegistry, Handler, answering

DATA = os.urandom(300_000)
DIGEST = of_bytes(DATA)


def ignore(handler: Handler) -> None:
    handler.cut()


def truncated(handler: Handler) -> None:
    """Half of the blob, then the line is dead."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(DATA)))
    handler.end_headers()
    handler.wfile.write(DATA[:150_000])
    handler.cut()


def get(connect: Connect, fake: FakeRegistry, size: int = len(DATA)) -> bytes:
    return b"".join(connect().blob(fake.address, "team/app", DIGEST, size))


# manifests


def test_a_manifest_by_tag_and_by_digest(fake: FakeRegistry, connect: Connect) -> None:
    digest = fake.add_manifest("team/app", "1", {"a": 1}, media.OCI_MANIFEST)
    client = connect()
    fetched = client.fetch_manifest(fake.address, "team/app", "1")
    assert fetched == (b'{"a": 1}', media.OCI_MANIFEST, digest)
    assert client.fetch_manifest(fake.address, "team/app", digest) == fetched
    assert client.manifest_digest(fake.address, "team/app", "1") == digest
    accept = fake.seen[0].headers["Accept"]
    assert all(t in accept for t in (*media.MANIFESTS, *media.INDEXES))


def test_a_manifest_that_is_not_there(fake: FakeRegistry, connect: Connect) -> None:
    with pytest.raises(NotFoundError, match=r"team/app:none was not found"):
        connect().fetch_manifest(fake.address, "team/app", "none")


def test_a_manifest_of_another_digest_is_refused(fake: FakeRegistry, connect: Connect) -> None:
    digest = fake.add_manifest("team/app", "1", {"a": 1}, media.OCI_MANIFEST)
    fake.manifests["team/app", digest] = (media.OCI_MANIFEST, b'{"a": 2}')
    with pytest.raises(RegistryError, match="damaged"):
        connect().fetch_manifest(fake.address, "team/app", digest)


def test_a_manifest_unlike_its_header_is_refused(fake: FakeRegistry, connect: Connect) -> None:
    fake.fault("GET", "manifests/1", lambda h: h.reply(200, b"{}", Docker_Content_Digest=DIGEST))
    with pytest.raises(RegistryError, match="damaged"):
        connect().fetch_manifest(fake.address, "team/app", "1")


def test_an_endless_manifest_is_cut_off(fake: FakeRegistry, connect: Connect) -> None:
    fake.fault("GET", "manifests/1", lambda h: h.reply(200, b"x" * (6 << 20)))
    with pytest.raises(RegistryError, match="more than"):
        connect().fetch_manifest(fake.address, "team/app", "1")


def test_schema_1_is_refused_by_name(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_manifest("team/app", "1", {}, "application/vnd.docker.distribution.manifest.v1+prettyjws")
    with pytest.raises(RegistryError, match="schema 1"):
        connect().fetch_manifest(fake.address, "team/app", "1")


# blobs


def test_a_blob(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob(DATA)
    assert get(connect, fake) == DATA


def test_a_broken_download_is_taken_up_where_it_broke(
    fake: FakeRegistry, connect: Connect, sleeps: list[float]
) -> None:
    fake.add_blob(DATA)
    fake.fault("GET", "blobs", truncated)
    assert get(connect, fake) == DATA
    assert fake.asked("GET", "blobs")[1].headers["Range"] == "bytes=150000-"
    assert len(sleeps) == 1


def test_a_server_without_ranges(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob(DATA)
    fake.fault("GET", "blobs", truncated)
    fake.fault("GET", "blobs", lambda h: h.reply(200, DATA))
    assert get(connect, fake) == DATA


def test_a_server_that_answers_another_range(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob(DATA)
    fake.fault("GET", "blobs", truncated)
    fake.fault("GET", "blobs", lambda h: h.reply(206, DATA[1:], Content_Range="bytes 1-299999/300000"))
    with pytest.raises(RegistryError, match="another range"):
        get(connect, fake)


def test_a_download_that_never_ends_well(fake: FakeRegistry, connect: Connect, sleeps: list[float]) -> None:
    fake.fault("GET", "blobs", ignore, times=20)
    with pytest.raises(RegistryError):
        get(connect, fake)
    assert len(sleeps) == 4 and sleeps == sorted(sleeps)


def test_a_blob_that_is_short_for_good(fake: FakeRegistry, connect: Connect) -> None:
    fake.blobs[DIGEST] = DATA[:-1]
    with pytest.raises(RegistryError, match="ended after"):
        get(connect, fake)


def test_a_corrupted_blob(fake: FakeRegistry, connect: Connect) -> None:
    fake.blobs[DIGEST] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(RegistryError, match="damaged"):
        get(connect, fake)


def test_a_blob_that_is_larger_than_its_descriptor(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob(DATA)
    with pytest.raises(RegistryError, match="more than the 1000 bytes"):
        get(connect, fake, size=1000)


def test_a_missing_blob(fake: FakeRegistry, connect: Connect) -> None:
    with pytest.raises(NotFoundError, match=f"team/app has no blob {DIGEST}"):
        get(connect, fake)
    assert connect().has_blob(fake.address, "team/app", DIGEST) is False


def test_a_config_is_read_whole_but_not_endlessly(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob(DATA)
    assert connect().fetch_blob(fake.address, "team/app", DIGEST, len(DATA)) == DATA
    with pytest.raises(RegistryError, match="too much"):
        connect().fetch_blob(fake.address, "team/app", DIGEST, 5 << 20)


# failures that pass, and those that stay


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(
    fake: FakeRegistry, connect: Connect, sleeps: list[float], status: int
) -> None:
    fake.add_manifest("team/app", "1", {}, media.OCI_MANIFEST)
    fake.fault("GET", "manifests", lambda h: h.reply(status), times=2)
    connect().fetch_manifest(fake.address, "team/app", "1")
    assert len(sleeps) == 2 and sleeps[0] < sleeps[1]


def test_retry_after_is_heeded_within_reason(
    fake: FakeRegistry, connect: Connect, sleeps: list[float]
) -> None:
    fake.add_manifest("team/app", "1", {}, media.OCI_MANIFEST)
    for seconds in ("7", "9999", "Fri, 31 Dec 2027 23:59:59 GMT"):
        fake.fault("GET", "manifests", lambda h, s=seconds: h.reply(429, Retry_After=s))  # type: ignore[misc]
    connect().fetch_manifest(fake.address, "team/app", "1")
    assert sleeps[0] == 7 and sleeps[1] == 30 and sleeps[2] < 2


@pytest.mark.parametrize("status", [429, 500])
def test_what_does_not_pass_is_told(fake: FakeRegistry, connect: Connect, status: int) -> None:
    body = json.dumps({"errors": [{"code": "X", "message": "out of\norder"}]}).encode()
    fake.fault("GET", "manifests", lambda h: h.reply(status, body), times=5)
    with pytest.raises(RegistryError, match=rf"out of\?order \(HTTP {status}\)") as caught:
        connect().fetch_manifest(fake.address, "team/app", "1")
    assert caught.value.status == status


@pytest.mark.parametrize("status", [400, 403, 405])
def test_what_stays_is_not_tried_again(
    fake: FakeRegistry, connect: Connect, sleeps: list[float], status: int
) -> None:
    client = connect({fake.address: HostSettings(http=True)})
    fake.fault("GET", "manifests", lambda h: h.reply(status))
    with pytest.raises(RegistryError) as caught:
        client.fetch_manifest(fake.address, "team/app", "1")
    assert caught.value.status == status and not sleeps and len(fake.seen) == 1


def test_a_registry_that_is_down(fake: FakeRegistry, connect: Connect, sleeps: list[float]) -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1: connection refused") as caught:
        connect().fetch_manifest("127.0.0.1:1", "app", "1")
    assert caught.value.hint and not sleeps


def test_a_name_that_does_not_resolve(connect: Connect) -> None:
    with pytest.raises(RegistryError, match="cannot be resolved"):
        connect().fetch_manifest("registry.invalid", "app", "1")


def test_an_error_page_is_no_reason_to_crash(fake: FakeRegistry, connect: Connect) -> None:
    for body in (b"<html>", b"[]", b'{"errors": 1}', b'{"errors": [1]}', b"\xff", b"[" * 10_000):
        fake.fault("GET", "manifests", lambda h, b=body: h.reply(403, b))  # type: ignore[misc]
        with pytest.raises(RegistryError, match="403"):
            connect().fetch_manifest(fake.address, "team/app", "1")


# redirects


def test_a_redirect_is_followed_without_credentials(
    fake: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    fake.add_blob(DATA)
    other.add_blob(DATA)
    basic(fake)
    target = f"http://{other.address}/v2/x/blobs/{DIGEST}"
    fake.fault("GET", "blobs", lambda h: h.reply(401, WWW_Authenticate='Basic realm="x"'))
    fake.fault("GET", "blobs", lambda h: h.reply(307, Location=target))
    client = connect(auths=auths(fake))
    assert b"".join(client.blob(fake.address, "team/app", DIGEST, len(DATA))) == DATA
    assert "Authorization" in fake.seen[1].headers
    assert "Authorization" not in other.seen[0].headers


def test_a_relative_redirect_keeps_credentials(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob(DATA)
    basic(fake)
    fake.fault("GET", "blobs", lambda h: h.reply(401, WWW_Authenticate='Basic realm="x"'))
    fake.fault("GET", "blobs", lambda h: h.reply(302, Location=f"/v2/other/blobs/{DIGEST}"))
    client = connect(auths=auths(fake))
    assert b"".join(client.blob(fake.address, "team/app", DIGEST, len(DATA))) == DATA


@pytest.mark.parametrize(
    "target",
    ["ftp://x/y", "file:///etc/passwd", "", "javascript:x", "http://a\x01b/", "http://[::1/x"],
)
def test_a_redirect_to_elsewhere(fake: FakeRegistry, connect: Connect, target: str) -> None:
    fake.fault("GET", "blobs", lambda h: h.reply(307, Location=target), times=30)
    with pytest.raises(RegistryError, match="redirects"):
        get(connect, fake)


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".invalid", "127.0.0.1:1"])
def test_a_redirect_to_where_nobody_is_names_that(fake: FakeRegistry, connect: Connect, host: str) -> None:
    fake.fault("GET", "blobs", lambda h: h.reply(307, Location=f"http://{host}/x"), times=30)
    with pytest.raises(RegistryError, match=f"cannot reach {host}"):
        get(connect, fake)


def test_credentials_go_to_nobody_whom_a_redirect_leads_to(
    fake: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    """It may ask for them, and name a token server of its own."""
    basic(fake)
    fake.fault("GET", "blobs", lambda h: h.reply(307, Location=f"http://{other.address}/x"))
    challenge = f'Bearer realm="http://{other.address}/token", Basic realm="x"'
    other.guard = answering(401, WWW_Authenticate=challenge)
    with pytest.raises(RegistryError, match="401"):
        list(connect(auths=auths(fake)).blob(fake.address, "team/app", DIGEST, len(DATA)))
    assert len(other.seen) == 1 and "Authorization" not in other.seen[0].headers


def test_no_redirect_from_tls_to_plain(
    secure: FakeRegistry, other: FakeRegistry, connect: Connect, certificate: tuple[str, str]
) -> None:
    other.add_blob(DATA)
    target = f"http://{other.address}/v2/x/blobs/{DIGEST}"
    secure.fault("GET", "blobs", lambda h: h.reply(307, Location=target))
    client = connect({secure.address: HostSettings(ca=(certificate[0],))})
    with pytest.raises(RegistryError, match="from https to plain http"):
        list(client.blob(secure.address, "team/app", DIGEST, len(DATA)))
    assert not other.seen


# protocols


def test_a_tls_registry_by_its_authority(
    secure: FakeRegistry, connect: Connect, certificate: tuple[str, str]
) -> None:
    secure.add_blob(DATA)
    client = connect({secure.address: HostSettings(ca=(certificate[0],))})
    assert client.has_blob(secure.address, "team/app", DIGEST)


def test_a_tls_registry_without_check(secure: FakeRegistry, connect: Connect) -> None:
    secure.add_blob(DATA)
    client = connect({secure.address: HostSettings(insecure=True)})
    assert client.has_blob(secure.address, "team/app", DIGEST)


def test_insecure_falls_back_to_plain_http(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob(DATA)
    client = connect({fake.address: HostSettings(insecure=True)})
    assert client.has_blob(fake.address, "team/app", DIGEST)


def test_an_unknown_authority_on_loopback_is_named(secure: FakeRegistry, connect: Connect) -> None:
    with pytest.raises(RegistryError, match="cannot be trusted") as caught:
        connect().has_blob(secure.address, "team/app", DIGEST)
    assert "ca =" in caught.value.hint


def test_tls_expected_but_plain_spoken(fake: FakeRegistry, connect: Connect) -> None:
    client = connect({fake.address: HostSettings(http=False)})
    with pytest.raises(RegistryError, match="does not speak TLS") as caught:
        client.has_blob(fake.address, "team/app", DIGEST)
    assert "http = true" in caught.value.hint


# mirrors


def test_mirrors_in_order_then_the_registry(
    fake: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    digest = fake.add_manifest("library/app", "1", {}, media.OCI_MANIFEST)
    mirrors = (other.address, f"{fake.address}/hub")
    fake.add_manifest("hub/library/app", "1", {}, media.OCI_MANIFEST)
    client = connect({"docker.io": HostSettings(mirrors=mirrors)})
    assert client.fetch_manifest("docker.io", "library/app", "1").digest == digest
    assert other.seen[0].path == "/v2/library/app/manifests/1"
    assert fake.seen[0].path == "/v2/hub/library/app/manifests/1"


def test_the_registry_itself_when_its_mirror_is_down(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_manifest("app", "1", {}, media.OCI_MANIFEST)
    fake.add_blob(DATA)
    client = connect({fake.address: HostSettings(mirrors=("127.0.0.1:1",))})
    client.fetch_manifest(fake.address, "app", "1")
    assert b"".join(client.blob(fake.address, "app", DIGEST, len(DATA))) == DATA


def test_a_mirror_that_dies_halfway_is_replaced(
    fake: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    fake.add_blob(DATA)
    other.fault("GET", "blobs", truncated)
    other.fault("GET", "blobs", ignore, times=9)
    client = connect({fake.address: HostSettings(mirrors=(other.address,))})
    assert b"".join(client.blob(fake.address, "app", DIGEST, len(DATA))) == DATA
    assert fake.seen[0].headers["Range"] == "bytes=150000-"


def test_a_mirror_that_changes_a_manifest_is_passed_over(
    fake: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    digest = fake.add_manifest("app", "1", {"a": 1}, media.OCI_MANIFEST)
    other.fault("GET", "manifests", lambda h: h.reply(200, b"{}", Docker_Content_Digest=digest))
    client = connect({fake.address: HostSettings(mirrors=(other.address,))})
    assert client.fetch_manifest(fake.address, "app", "1").digest == digest and len(other.seen) == 1


def test_every_failure_is_told(fake: FakeRegistry, other: FakeRegistry, connect: Connect) -> None:
    client = connect({fake.address: HostSettings(mirrors=(other.address,))})
    with pytest.raises(NotFoundError, match=rf"app:1 was not found \(mirror {other.address}: .*unknown"):
        client.fetch_manifest(fake.address, "app", "1")


def test_pushes_do_not_go_to_mirrors(fake: FakeRegistry, other: FakeRegistry, connect: Connect) -> None:
    client = connect({fake.address: HostSettings(mirrors=(other.address,))})
    client.upload_bytes(fake.address, "app", b"{}")
    assert not other.seen and of_bytes(b"{}") in fake.blobs


# uploads


def chunks() -> Iterator[bytes]:
    for at in range(0, len(DATA), 70_000):
        yield DATA[at : at + 70_000]


def test_an_upload_of_unknown_size(fake: FakeRegistry, connect: Connect) -> None:
    uploaded = connect().upload_blob(fake.address, "app", chunks)
    assert uploaded == Uploaded(DIGEST, len(DATA)) and fake.blobs[DIGEST] == DATA
    assert [seen.method for seen in fake.seen] == ["POST", "PATCH", "PUT"]
    assert fake.seen[1].headers["Transfer-Encoding"] == "chunked"


def test_an_upload_whose_producer_hashes(fake: FakeRegistry, connect: Connect) -> None:
    told = Uploaded(DIGEST, len(DATA))
    assert connect().upload_blob(fake.address, "app", chunks, finished=lambda: told) is told


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_a_broken_upload_starts_again(
    fake: FakeRegistry, connect: Connect, method: str, sleeps: list[float]
) -> None:
    def fail(handler: Handler) -> None:
        handler.body()
        handler.reply(503)

    fake.fault(method, "uploads", fail)
    assert connect().upload_blob(fake.address, "app", chunks).digest == DIGEST
    assert fake.blobs[DIGEST] == DATA and len(sleeps) == 1


def test_an_upload_that_is_refused_early(fake: FakeRegistry, connect: Connect) -> None:
    def refuse(handler: Handler) -> None:
        handler.reply(413, b'{"errors":[{"message":"too large"}]}', Connection="close")
        handler.cut()

    fake.fault("PATCH", "uploads", refuse, times=9)
    with pytest.raises(RegistryError):
        connect().upload_blob(fake.address, "app", lambda: (os.urandom(1 << 20) for _ in range(50)))


def test_a_producer_that_fails(fake: FakeRegistry, connect: Connect) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise StoreError("the layer is gone")

    with pytest.raises(StoreError, match="the layer is gone"):
        connect().upload_blob(fake.address, "app", broken)


def test_a_wrong_digest_is_refused_by_the_registry(fake: FakeRegistry, connect: Connect) -> None:
    wrong = Uploaded(Digest("sha256:" + hashlib.sha256(b"").hexdigest()), 5)
    with pytest.raises(RegistryError, match="digest invalid"):
        connect().upload_blob(fake.address, "app", chunks, finished=lambda: wrong)


def test_mounting(fake: FakeRegistry, connect: Connect) -> None:
    fake.add_blob(DATA)
    client = connect()
    assert client.mount_blob(fake.address, "app", DIGEST, "team/base")
    assert "from=team%2Fbase" in fake.seen[0].path
    assert not client.mount_blob(fake.address, "app", of_bytes(b""), "team/base")
    assert fake.seen[-1].method == "DELETE", "the upload that was begun instead is given up"


@pytest.mark.parametrize("location", ["", "ftp://x/y", "http://[::1/x", "http://127.0.0.1:99999/x"])
def test_an_upload_that_goes_on_nowhere(fake: FakeRegistry, connect: Connect, location: str) -> None:
    fake.fault("POST", "uploads", lambda h: h.reply(202, Location=location))
    with pytest.raises(RegistryError, match="upload"):
        connect().upload_bytes(fake.address, "app", b"{}")


def test_an_upload_stays_with_tls(
    secure: FakeRegistry, connect: Connect, certificate: tuple[str, str]
) -> None:
    """As registries behind a proxy do that don't know of its TLS."""
    plain = f"http://{secure.address}/v2/app/blobs/uploads/0"
    secure.uploads["/v2/app/blobs/uploads/0"] = b""
    secure.fault("POST", "uploads", lambda h: h.reply(202, Location=plain))
    client = connect({secure.address: HostSettings(ca=(certificate[0],))})
    assert client.upload_bytes(secure.address, "app", b"{}").size == 2


def test_putting_a_manifest(fake: FakeRegistry, connect: Connect) -> None:
    digest = connect().put_manifest(fake.address, "app", "1", b"{}", media.OCI_MANIFEST)
    assert fake.manifests["app", "1"] == fake.manifests["app", digest] == (media.OCI_MANIFEST, b"{}")


def test_what_is_sent_follows_a_redirect_that_keeps_its_method(
    fake: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    target = f"http://{other.address}/v2/app/manifests/1"
    fake.guard = answering(307, Location=target)
    connect().put_manifest(fake.address, "app", "1", b"{}", media.OCI_MANIFEST)
    assert other.manifests["app", "1"] == (media.OCI_MANIFEST, b"{}")


@pytest.mark.parametrize("status", [301, 303, 304])
def test_what_is_sent_elsewhere_is_not_stored(fake: FakeRegistry, connect: Connect, status: int) -> None:
    fake.guard = answering(status, Location="/login")
    with pytest.raises(RegistryError, match=f"HTTP {status}"):
        connect().put_manifest(fake.address, "app", "1", b"{}", media.OCI_MANIFEST)


def test_a_refusal_of_the_first_request_is_told(fake: FakeRegistry, connect: Connect) -> None:
    """Though 400 is what a TLS server answers to plain http, too."""
    body = b'{"errors":[{"message":"bad tag"}]}'
    fake.fault("GET", "manifests", lambda h: h.reply(400, body, Content_Type="application/json"))
    with pytest.raises(RegistryError, match="bad tag"):
        connect().fetch_manifest(fake.address, "app", "1")


def basic(fake: FakeRegistry) -> None:
    """Nothing without ``user:secret``."""

    def guard(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == "Basic dXNlcjpzZWNyZXQ=":
            return True
        handler.reply(401, WWW_Authenticate='Basic realm="here"')
        return False

    fake.guard = guard


def auths(fake: FakeRegistry) -> str:
    return json.dumps({"auths": {fake.address: {"auth": "dXNlcjpzZWNyZXQ="}}})
